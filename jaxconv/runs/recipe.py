"""The part of an experiment that no setting changes: its name, optimizer and loss."""

import dataclasses
from collections.abc import Callable

import optax

from jaxconv.training.losses import Loss


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an experiment trains its net.

    Example:
      >>> import jaxconv
      >>> loss = jaxconv.sparse_categorical_crossentropy
      >>> recipe = Recipe("lab6", tx=jaxconv.rmsprop, loss=loss)
      >>> recipe.name, recipe.validate_on_test
      ('lab6', False)
    """

    name: str
    """The name of the experiment and of its net."""
    tx: Callable[[float], optax.GradientTransformation]
    """Makes the optimizer for a learning rate."""
    loss: Loss
    """`(logits, labels) -> [N]`, for integer labels."""
    validate_on_test: bool = False
    """Validate on the test set, unless the settings hold a part of the training set out."""
