"""Collects the diagnostics of a trained net for the page of its run, `diagnostics.npz`."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array

from jaxconv.data.arrays import Split
from jaxconv.inspection.feature_maps import feature_maps
from jaxconv.inspection.summary import LayerRow, layer_rows
from jaxconv.runs.files import write_arrays
from jaxconv.training.predict import predict
from jaxconv.training.state import TrainState
from jaxconv.training.step import classifier

MAX_MISTAKES, MAX_CHANNELS = 24, 64
"""The most mistakes to keep, and the most filters or feature maps of a layer."""


def collect_diagnostics(
    model: nn.Module,
    state: TrainState,
    test: Split,
    class_names: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Collects predictions, mistakes, filters and feature maps, to be read without the net.

    Args:
      model: the Linen classifier.
      state: its trained state.
      test: the test samples, images `[samples, height, width, channels]`.
      class_names: the classes' names, if they have some.

    Returns:
      - `label`, `prediction` and `confidence`, the prediction's probability, all `[samples]`;
      - `mistake`, the indices of the most confident wrong predictions, and `mistake_image`;
      - `filters`, the first kernel `[height, width, channels, filters]`, if it shows as images,
        `filters_layer`, its layer, and `filters_count`, how many filters that has;
      - `image`, the first test image, and `probabilities`, the net's output for it `[classes]`;
      - `map_layer`, the layers that give feature maps for it, `map_channels`, how many, and
        `map_0`, `map_1` and so on, each `[height, width, channels]`;
      - `layer`, `layer_kind`, `layer_shape`, `layer_params` and `layer_macs`: the summary, with -1
        for multiply-adds that are not counted;
      - `class_name`, if given.

    Raises:
      ValueError: if the images do not fit the model.

    Example:
      >>> import jax, jaxconv
      >>> model, tx = jaxconv.create_model("lab6"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> test = jaxconv.load_dataset("mnist").test
      >>> arrays = collect_diagnostics(model, state, Split(test.image[:100], test.label[:100]))
      >>> arrays["prediction"].shape, arrays["filters"].shape, arrays["map_layer"].tolist()
      ((100,), (3, 3, 1, 32), ['conv1', 'pool1', 'conv2', 'pool2', 'conv3'])
    """
    probabilities = np.asarray(
        predict(classifier(model, optax.identity()), state, test.image), np.float32
    )
    prediction, confidence = probabilities.argmax(axis=-1), probabilities.max(axis=-1)
    label = np.asarray(test.label)
    wrong = np.flatnonzero(prediction != label)
    mistakes = wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_MISTAKES]
    outputs = feature_maps(model, state, test.image[:1])
    maps = {name: _floats(x)[0] for name, x in outputs.items() if x.ndim == 4}
    rows = layer_rows(model, test.image.shape[1:])
    return {
        "label": label,
        "prediction": prediction.astype(np.int32),
        "confidence": confidence,
        "mistake": mistakes,
        "mistake_image": _storable(test.image[mistakes]),
        **_filters(rows, state, test.image.shape[1:]),
        "image": _storable(test.image[0]),
        "probabilities": probabilities[0],
        "map_layer": np.array(list(maps), dtype=np.str_),
        "map_channels": np.array([x.shape[-1] for x in maps.values()], np.int32),
        **{f"map_{i}": x[..., :MAX_CHANNELS] for i, x in enumerate(maps.values())},
        "layer": np.array([row.name for row in rows]),
        "layer_kind": np.array([row.kind for row in rows]),
        "layer_shape": np.array([str(row.output_shape) for row in rows]),
        "layer_params": np.array([row.params for row in rows]),
        "layer_macs": np.array([-1 if row.macs is None else row.macs for row in rows]),
        **({} if class_names is None else {"class_name": np.array(class_names, np.str_)}),
    }


def save_diagnostics(
    path: Path,
    model: nn.Module,
    states: TrainState,
    seeds: Sequence[int],
    test: Split,
    class_names: Sequence[str] | None = None,
) -> None:
    """Writes the diagnostics, with its `seed`, of the first replica that did not diverge, if any.

    Args:
      path: the file to write.
      model: the Linen classifier.
      states: the trained states of the replicas, stacked.
      seeds: the seed of each replica.
      test: the test samples, images `[samples, height, width, channels]`.
      class_names: the classes' names, if they have some.

    Raises:
      OSError: if the file cannot be written.
    """
    for index, seed in enumerate(seeds):
        own = _replica(states, index)
        if all(np.isfinite(_floats(x)).all() for x in jax.tree.leaves(own.params)):
            arrays = collect_diagnostics(model, own, test, class_names)
            write_arrays(path, arrays | {"seed": np.array(seed)})
            return


@jax.jit
def _replica(states: TrainState, index: int | Array) -> TrainState:
    return jax.tree.map(lambda x: x[index], states)


def _storable(image: np.ndarray) -> np.ndarray:
    """Images in a dtype that an npz file restores: it would return bfloat16 as bytes."""
    return image if image.dtype == np.uint8 else _floats(image)


def _floats(x: Array | np.ndarray) -> np.ndarray:
    """The array in float32, converted on the host: JAX would compile a program for each shape."""
    return np.asarray(x).astype(np.float32)


def _filters(
    rows: Sequence[LayerRow], state: TrainState, shape: Sequence[int]
) -> dict[str, np.ndarray]:
    """The first kernel: a convolution's filters, or a dense layer's weights for each pixel."""
    for row in rows:
        if "kernel" not in row.arrays:
            continue
        params = state.params
        for key in row.path:
            params = params[key]
        kernel = _floats(params["kernel"])
        if kernel.ndim == 2 and len(kernel) == np.prod(shape):
            kernel = kernel.reshape(*shape, -1)
        if kernel.ndim == 4:
            return {
                "filters": kernel[..., :MAX_CHANNELS],
                "filters_count": np.array(kernel.shape[-1]),
                "filters_layer": np.array(row.name),
            }
        break
    return {}
