"""`feature_maps`: the output of each layer of a model for a batch of images."""

import functools
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Shaped

from jaxconv.inspection.summary import layer_rows
from jaxconv.models.convnet import ConvNet
from jaxconv.models.forward import as_float, call_arguments
from jaxconv.training.state import TrainState


def feature_maps(
    model: nn.Module, state: TrainState, image: Shaped[Array | np.ndarray, "batch *image"]
) -> dict[str, Float[Array, "batch ..."]]:
    """The output of each layer for a batch of images, in the order in which the layers run.

    Args:
      model: a Linen classifier; its layers are those of `summary`. JAX compiles one program for
        each model and shape of images.
      state: the model's parameters and running statistics.
      image: uint8 or floating-point images, scaled as a train step scales them.

    Returns:
      Each layer's output by the layer's name; for a convolution these are its feature maps
      `[batch, height, width, channels]`. A layer's second call has ` (2)` behind the name. Layers
      that run in training alone are left out.

    Raises:
      ValueError: if the images do not fit the model.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("lab6"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> maps = feature_maps(model, state, jaxconv.load_dataset("mnist").test.image[:2])
      >>> list(maps)
      ['conv1', 'pool1', 'conv2', 'pool2', 'conv3', 'flatten', 'logits']
      >>> maps["conv3"].shape
      (2, 3, 3, 128)
    """
    if isinstance(model, ConvNet):
        model = model.clone(form="xla")  # the patches form joins some layers
    outputs = _outputs(state, image, model=model)
    maps: dict[str, Array] = {}
    counts: dict[tuple[str, ...], int] = {}
    for row in layer_rows(model, image.shape[1:]):
        counts[row.path] = count = counts.get(row.path, 0) + 1
        calls: Any = outputs
        for key in (*row.path, "__call__"):
            calls = calls.get(key, {})
        arrays = jax.tree.leaves(calls[count - 1]) if count <= len(calls) else []
        if arrays:  # some layers run only while the parameters are initialized
            maps[row.name if count == 1 else f"{row.name} ({count})"] = arrays[0]
    return maps


@functools.partial(jax.jit, static_argnames="model")
def _outputs(state: TrainState, image: Array, *, model: nn.Module) -> dict[str, Any]:
    """The outputs of every module, one for each call, nested by the names on its path."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    train = call_arguments(model, train=False)
    options: Any = {"capture_intermediates": True, "mutable": ["intermediates"]}
    _, captured = model.apply(variables, as_float(image, model), **train, **options)
    return dict(captured["intermediates"])
