"""The part of an experiment that no setting changes: its name, net, optimizer and loss."""

import dataclasses
from collections.abc import Callable

import optax

from jaxconv.models.forward import Model
from jaxconv.training.losses import Loss


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an experiment trains its net.

    Example:
      >>> import functools, jaxconv
      >>> recipe = Recipe(
      ...     "lab6",
      ...     model=functools.partial(jaxconv.create_model, "lab6"),
      ...     tx=jaxconv.rmsprop,
      ...     loss=jaxconv.sparse_categorical_crossentropy,
      ... )
      >>> recipe.model(10, padding="same").padding
      'same'
    """

    name: str
    """The name of the experiment."""
    model: Callable[..., Model]
    """Makes the net for a number of classes and the settings of `Config.model`."""
    tx: Callable[[optax.ScalarOrSchedule], optax.GradientTransformation]
    """Makes the optimizer for a learning rate, which is a number or a schedule."""
    loss: Loss
    """`(logits, labels) -> [N]`, for integer labels."""
    validate_on_test: bool = False
    """Validate on the test set, unless the settings hold a part of the training set out."""
