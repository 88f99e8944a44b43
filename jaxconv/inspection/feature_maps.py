"""`feature_maps`: the output of each layer of a model for a batch of images."""

import functools
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, Shaped

from jaxconv.inspection.summary import layer_rows
from jaxconv.models.convnet import ConvNet, as_hashable
from jaxconv.models.forward import as_float, call_arguments
from jaxconv.training.state import TrainState


def feature_maps(
    model: nn.Module, state: TrainState, image: Shaped[Array | np.ndarray, "batch *image"]
) -> dict[str, Float[Array, "batch ..."]]:
    """The output of each layer for a batch of images, in the order in which the layers run.

    Args:
      model: a Linen classifier; its layers are those of `summary`.
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
    lists = [name for name in model.__dataclass_fields__ if isinstance(getattr(model, name), list)]
    model = model.clone(**{name: as_hashable(getattr(model, name)) for name in lists})
    outputs: Any = flatten_dict(_outputs(state, image, model=model))
    rows, maps = layer_rows(model, image.shape[1:]), {}
    for index, row in enumerate(rows):
        earlier = [other.path for other in rows[:index]].count(row.path)
        calls = outputs.get((*row.path, "__call__"), ())
        if arrays := jax.tree.leaves(calls[earlier : earlier + 1]):  # none if only `init` ran it
            maps[f"{row.name} ({earlier + 1})" if earlier else row.name] = arrays[0]
    return maps


@functools.partial(jax.jit, static_argnames="model")
def _outputs(state: TrainState, image: Array, *, model: nn.Module) -> dict[str, Any]:
    """Each module's outputs, one for each call, nested by the names on its path."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    train = call_arguments(model, train=False)
    options: Any = {"capture_intermediates": True, "mutable": ["intermediates"]}
    _, captured = model.apply(variables, as_float(image, model), **train, **options)
    return dict(captured["intermediates"])
