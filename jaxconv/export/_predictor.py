"""The function that the room hands over: from images to probabilities, with the weights inside."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

from jaxconv._checks import check_choice, check_params
from jaxconv.models.convnet import ConvNet
from jaxconv.models.forward import Model
from jaxconv.training.state import TrainState
from jaxconv.training.step import classifier


def predictor(
    model: Model, state: TrainState, input_shape: Sequence[int], input_dtype: str
) -> Callable[[Any], jax.Array]:
    """`images -> probabilities`, as `predict` computes them, with the weights as constants.

    A `ConvNet` computes in the form of XLA's own windows, which every platform has.

    Raises:
      ValueError: if `input_dtype` is neither uint8 nor float32, or the state is not the model's.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.adam()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (8, 8, 1))
      >>> predictor(model, state, (8, 8, 1), "float32")(jax.numpy.ones((2, 8, 8, 1))).shape
      (2, 10)
    """
    check_choice("input_dtype", input_dtype, ("uint8", "float32"))
    if isinstance(model, ConvNet):
        model = model.clone(form="xla")
    net = classifier(model, optax.identity())
    expected = jax.eval_shape(lambda: net.init(jax.random.key(0), tuple(input_shape)))
    check_params(state.params, expected.params)
    params, batch_stats = jax.device_get((state.params, state.batch_stats))
    state = state._replace(params=params, batch_stats=batch_stats)
    return lambda image: net.predict(state, image)
