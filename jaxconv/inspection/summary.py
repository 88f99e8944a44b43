"""`summary`: the table of a model that Keras' users know, from the model itself."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxconv.inspection.arithmetic import macs
from jaxconv.training.state import model_dtype, train_argument

_OWN_FIELDS = ("name", "parent")


class LayerRow(NamedTuple):
    """One layer of a model, as it ran on one sample."""

    path: tuple[str, ...]
    """The names that lead to it; its parameters are found by them. `()` is the model itself."""
    kind: str
    output_shape: tuple[int, ...]
    """Without the batch."""
    params: int
    """Parameters and running statistics of the layer itself."""
    macs: int
    """Of one sample, of dense layers and convolutions: the kernel's size times the positions that
    it is applied at (those left by the pooling, where a convolution is called with it). Of other
    layers 0."""
    input_shape: tuple[int, ...] = ()
    """Of its first argument, without the batch."""
    arrays: Mapping[str, tuple[int, ...]] = {}
    """The shapes of its parameters and running statistics."""
    settings: Mapping[str, Any] = {}
    """The module's fields."""
    source: int | None = None
    """The row whose output is its input, -1 for the image; None if something else made it."""

    @property
    def name(self) -> str:
        return "/".join(self.path) or self.kind


def layer_rows(model: nn.Module, input_shape: Sequence[int]) -> list[LayerRow]:
    """The layers of any Linen classifier, in the order in which they run.

    The model is traced on abstract values, so that nothing is computed. A module counts as a layer
    if it holds parameters of its own or calls no other module.

    Args:
      model: a Linen module that takes a batch of images.
      input_shape: the shape of one image, `(height, width, channels)`.

    Raises:
      ValueError: if the images do not fit the model.

    Example:
      >>> import jaxconv
      >>> layer_rows(jaxconv.create_model("strided"), (28, 28, 1))[1]
      LayerRow(path=('conv2',), kind='Conv', output_shape=(6, 6, 32), params=4640, ...)
    """
    return trace_layers(model, input_shape)[0]


def summary(model: nn.Module, input_shape: Sequence[int]) -> None:
    """Prints layers, output shapes, parameters, multiply-adds a sample, and the totals.

    Args and errors as in `layer_rows`.

    Example:
      >>> import jaxconv
      >>> summary(jaxconv.create_model("strided"), (28, 28, 1))
      ConvNet for inputs of (28, 28, 1)
      ────────────────────────────────────────────────────────────────
      Layer              Output shape          Params    Multiply-adds
      ────────────────────────────────────────────────────────────────
      conv1 (Conv)       (None, 13, 13, 16)       160           24,336
      conv2 (Conv)       (None, 6, 6, 32)       4,640          165,888
      conv3 (Conv)       (None, 2, 2, 64)      18,496           73,728
      flatten (Flatten)  (None, 256)                0                0
      dense1 (Dense)     (None, 64)            16,448           16,384
      logits (Dense)     (None, 10)               650              640
      ────────────────────────────────────────────────────────────────
      Total params: 40,394 (157.79 KiB)
      Trainable params: 40,394
      Non-trainable params: 0
      Multiply-adds a sample: 280,976

    Source: https://keras.io/api/models/model/ (summary)
    """
    layers, variables = trace_layers(model, input_shape)
    header = ("Layer", "Output shape", "Params", "Multiply-adds")
    cells = [
        (
            f"{row.name} ({row.kind})",
            f"(None, {', '.join(map(str, row.output_shape))})",
            f"{row.params:,}",
            f"{row.macs:,}",
        )
        for row in layers
    ]
    first, second, third, fourth = (
        max(map(len, column)) for column in zip(header, *cells, strict=True)
    )
    lines = [
        f"{a:<{first}}  {b:<{second}}  {c:>{third + 2}}  {d:>{fourth + 2}}"
        for a, b, c, d in (header, *cells)
    ]
    rule = "─" * len(lines[0])
    trainable = jax.tree.leaves(variables.get("params", {}))
    everything = jax.tree.leaves(variables)
    total, learned = (sum(x.size for x in leaves) for leaves in (everything, trainable))
    size = sum(x.size * x.dtype.itemsize for x in everything)
    print(
        f"{type(model).__name__} for inputs of {tuple(input_shape)}", rule, lines[0], rule, sep="\n"
    )
    print(*lines[1:], rule, sep="\n")
    print(f"Total params: {total:,} ({_bytes(size)})")
    print(f"Trainable params: {learned:,}")
    print(f"Non-trainable params: {total - learned:,}")
    print(f"Multiply-adds a sample: {sum(row.macs for row in layers):,}")


def trace_layers(
    model: nn.Module, input_shape: Sequence[int]
) -> tuple[list[LayerRow], Mapping[str, Any]]:
    """The rows of `layer_rows`, and the shapes of all variables by collection.

    Args and errors as in `layer_rows`.

    Example:
      >>> import jaxconv
      >>> rows, variables = trace_layers(jaxconv.create_model("dense"), (28, 28, 1))
      >>> variables["params"][rows[1].name]["kernel"].shape
      (784, 512)
    """
    calls: list[tuple[nn.Module, Any, Any]] = []
    callers: set[tuple[str, ...]] = set()
    given: list[Any] = []

    def record(next_function, args, kwargs, context):
        module, taken = context.module, _first((args, kwargs))
        if not given:  # the model's own call comes first
            given.append(taken)
        output = next_function(*args, **kwargs)
        if context.method_name == "__call__":
            calls.append((module, taken, _first(output)))
            callers.update(module.path[:depth] for depth in range(len(module.path)))
        return output

    image = jax.ShapeDtypeStruct((1, *input_shape), model_dtype(model))
    with nn.intercept_methods(record):
        variables = nn.unbox(
            jax.eval_shape(
                lambda x: model.init(jax.random.key(0), x, **train_argument(model, train=False)),
                image,
            )
        )
    rows, seen, made = [], set(), [(given[0], -1)]
    for module, taken, output in calls:
        path, inputs, outputs = module.path, jnp.shape(taken)[1:], jnp.shape(output)[1:]
        arrays = _own(variables, path)
        own = [] if path in seen else arrays
        kernels = [x for name, x in arrays if name == "kernel"]
        seen.add(path)
        if own or path not in callers:
            fields = [field.name for field in dataclasses.fields(module)]  # pyright: ignore
            source = next((n for x, n in made if x is taken and x is not None), None)
            made.append((output, len(rows)))
            rows.append(
                LayerRow(
                    path=path,
                    kind=type(module).__name__,
                    output_shape=outputs,
                    params=sum(x.size for _, x in own),
                    macs=sum(_products(module, x.shape, outputs) for x in kernels),
                    input_shape=inputs,
                    arrays={name: x.shape for name, x in arrays},
                    settings={x: getattr(module, x) for x in fields if x not in _OWN_FIELDS},
                    source=source,
                )
            )
    return rows, variables


def _first(tree: Any) -> Any:
    """The first array with axes of a module's arguments or output."""
    return next((x for x in jax.tree.leaves(tree) if getattr(x, "ndim", 0)), None)


def _products(module: nn.Module, kernel: tuple[int, ...], output: tuple[int, ...]) -> int:
    """A layer's multiply-adds where they are known: of matrices, and of windows over an image."""
    plain = len(kernel) == 2 or type(module).__name__ == "Conv"
    return macs(kernel, output) if plain and output[-1:] == kernel[-1:] else 0


def _own(
    variables: Mapping[str, Any], path: tuple[str, ...]
) -> list[tuple[str, jax.ShapeDtypeStruct]]:
    """The variables that the module at this path holds itself, in all collections."""
    found = []
    for tree in variables.values():
        for key in path:
            tree = tree.get(key, {})
        found += [(name, x) for name, x in tree.items() if not isinstance(x, Mapping)]
    return found


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"
