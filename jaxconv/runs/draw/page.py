"""Writes `draw.html`: a canvas, and a trained net that answers in the browser."""

import base64
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv._checks import check_installed
from jaxconv.inspection import explicit_padding, output_size
from jaxconv.models import ACTIVATIONS, BATCH_NORM_EPSILON, ConvNet, model_dtype
from jaxconv.runs.files import write_text
from jaxconv.runs.trained import Trained
from jaxconv.training import TrainState

SHAPE = (28, 28, 1)


def write_draw_page(trained: Trained, path: Path) -> Path:
    """Writes a page on which one draws digits for a trained net, which needs no network.

    The weights are in the file, and the page computes in float32 what `trained.predict` computes:
    the mean of the probabilities over the seeds that did not diverge. It prints a line if the net
    itself computes with fewer digits, since the two then differ.

    Args:
      trained: a run's net, from `jaxconv.load_run`.
      path: the page; its folder exists.

    Returns:
      The page's path.

    Raises:
      ValueError: if the net is not a `ConvNet`, its images are not uint8 (28, 28, 1), its
        activation has no name, or its parameters are not finite.
      ModuleNotFoundError: without the packages of `jaxconv[run]`.
      OSError: if the page cannot be written.
    """
    check_installed("run")
    import jinja2

    model, takes = trained.model, f"{trained.input_dtype} {tuple(trained.input_shape)}"
    if type(model) is not ConvNet:
        raise ValueError(
            f"The page computes a jaxconv.ConvNet, not {type(model).__name__}: ask this net with "
            "jaxconv.load_run(...).predict(images)."
        )
    if takes != f"uint8 {SHAPE}":
        raise ValueError(
            f"The page draws images of uint8 {SHAPE}, and this net takes {takes}: ask it with "
            "jaxconv.load_run(...).predict(images)."
        )
    dtype = jnp.dtype(model_dtype(model))
    if jnp.finfo(dtype).bits < 32:
        print(f"The net computes in {dtype} and the page in float32: the two differ slightly.")
    states = [trained.states[i] for i in trained.kept]
    layers = describe(model)
    net = {
        "classes": list(map(str, trained.class_names or range(model.num_classes))),
        "layers": layers,
        "members": [_weights(layers, state) for state in states],
    }
    where = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(loader=where, autoescape=True, undefined=jinja2.StrictUndefined)
    page = pages.get_template("page.html.jinja").render(
        name=trained.experiment or "the net",
        dataset=trained.dataset,
        params=sum(x.size for x in jax.tree.leaves(states[0].params)),
        accuracies=[x for x in trained.test_accuracy or () if x is not None],
        net=net,
    )
    write_text(path, page + "\n")
    return path


def describe(model: ConvNet) -> list[dict[str, Any]]:
    """The layers of a net as plain values, for `net.js`, whose images are (28, 28, 1).

    Each has a `kind`, a `name`, and the `shape` [height, width, channels] of its output. A window
    has its size, strides and pads [[top, bottom], [left, right]]; a dense layer is a window over
    the whole input.

    Raises:
      ValueError: if the activation has no name in `ACTIVATIONS`.

    Example:
      >>> describe(ConvNet(filters=(8,), strides=2, padding="same"))[0]["pads"]
      [[0, 1], [0, 1]]
      >>> [layer["shape"] for layer in describe(ConvNet(filters=(8,), num_pools=1, hidden=(64,)))]
      [[26, 26, 8], [13, 13, 8], [1, 1, 64], [1, 1, 10]]
    """
    activations: dict[Any, str] = {function: name for name, function in ACTIVATIONS.items()}
    activation = activations.get(model.activation, model.activation) or "linear"
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"The page knows no activation {activation!r}: take one of jaxconv.models.ACTIVATIONS."
        )
    layers, size = [], list(SHAPE[:2])

    def add(kind: str, name: str, channels: int, window: Any, strides: Any, padding: Any, **more):
        nonlocal size
        window, strides = ([x, x] if isinstance(x, int) else list(x) for x in (window, strides))
        sides = padding if isinstance(padding, tuple) else (padding, padding)
        axes = list(zip(size, window, strides, sides, strict=True))
        size = [output_size(*axis) for axis in axes]
        pads = [list(explicit_padding(*axis)) for axis in axes]
        layers.append(
            {"kind": kind, "name": name, "shape": [*size, channels], "window": window}
            | {"strides": strides, "pads": pads, **more}
        )

    for i, filters in enumerate(model.filters, start=1):
        window = (model.kernel_size, model.strides, model.padding)
        add("conv", f"conv{i}", filters, *window, activation=activation)
        if i <= model.num_pools:
            strides = model.pool_size if model.pool_strides is None else model.pool_strides
            window = (model.pool_size, strides, model.pool_padding)
            add("pool", f"pool{i}", filters, *window, pool=model.pool)
    if model.global_pool:
        add(
            "pool", "mean", layers[-1]["shape"][-1] if layers else SHAPE[-1], size, 1, 0, pool="avg"
        )
    for i, units in enumerate(model.hidden, start=1):
        add("dense", f"dense{i}", units, size, 1, 0, activation="relu")
    add("dense", "logits", model.num_classes, size, 1, 0, activation="linear")
    return layers


def _weights(layers: list[dict[str, Any]], state: TrainState) -> str:
    """Kernels and biases, in the order of the layers, as base64 of little-endian float32."""
    names = [x["name"] for x in layers if x["kind"] != "pool"]
    arrays = [x for name in names for x in _kernel_and_bias(name, state)]
    flat = np.concatenate([np.asarray(x, "<f4").ravel() for x in arrays])
    if not np.isfinite(flat).all():
        raise ValueError("The net's parameters are not finite, since its training diverged.")
    return base64.b64encode(flat.tobytes()).decode()


def _kernel_and_bias(name: str, state: TrainState) -> tuple[Any, Any]:
    """The kernel and bias of a layer; of a convolution, joined with the BatchNorm behind it."""
    layer, norm = state.params[name], name.replace("conv", "norm")
    if norm not in state.batch_stats:
        return layer["kernel"], layer["bias"]
    learned, running = (
        {key: np.asarray(x, np.float64) for key, x in tree[norm].items()}
        for tree in (state.params, state.batch_stats)
    )
    scale = learned["scale"] / np.sqrt(running["var"] + BATCH_NORM_EPSILON)
    return np.asarray(layer["kernel"]) * scale, learned["bias"] - running["mean"] * scale
