"""What each layer of a model makes of images."""

import functools
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Shaped

from jaxconv.inspection.summary import layer_rows
from jaxconv.models.convnet import ConvNet
from jaxconv.training.state import TrainState, as_float, train_argument


def feature_maps(
    model: nn.Module, state: TrainState, image: Shaped[Array | np.ndarray, "batch *image"]
) -> dict[str, Float[Array, "batch ..."]]:
    """The output of each layer for a batch of images, in the order in which the layers run.

    Args:
      model: a Linen classifier; its layers are those of `summary`. Compiled once for each model and
        shape of images.
      state: its parameters.
      image: uint8 or floating-point images, scaled as a step does it.

    Returns:
      By the layer's name, its output: the feature maps `[batch, height, width, channels]` of a
      convolution. A layer's second call has ` (2)` behind its name; one that is called in training
      alone is left out.

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
        model = model.clone(form="xla")  # layer by layer; the patches form joins some
    found = _outputs(state, image, model=model)
    maps: dict[str, Array] = {}
    taken: dict[tuple[str, ...], int] = {}
    for row in layer_rows(model, image.shape[1:]):
        taken[row.path] = count = taken.get(row.path, 0) + 1
        calls: Any = found
        for key in (*row.path, "__call__"):
            calls = calls.get(key, {})
        outputs = jax.tree.leaves(calls[count - 1]) if count <= len(calls) else []
        if outputs:  # some layers run only where the parameters are made
            maps[row.name if count == 1 else f"{row.name} ({count})"] = outputs[0]
    return maps


@functools.partial(jax.jit, static_argnames="model")
def _outputs(state: TrainState, image: Array, *, model: nn.Module) -> dict[str, Any]:
    """What every module returned, call by call, by the names that lead to it."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    train = train_argument(model, train=False)
    options: Any = {"capture_intermediates": True, "mutable": ["intermediates"]}
    _, found = model.apply(variables, as_float(image, model), **train, **options)
    return dict(found["intermediates"])
