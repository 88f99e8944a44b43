"""The net of the best epoch, kept beside the one that trains on."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxconv.training.average import averaged
from jaxconv.training.state import TrainState


class Best(NamedTuple):
    """The net of the epoch with the lowest validation loss so far."""

    loss: Float[Array, "*replicas"]
    """Infinite before the first validation."""
    params: PyTree[Array]
    batch_stats: PyTree[Array]


def keep_best(state: TrainState) -> TrainState:
    """Makes a training keep the net of its best epoch: Keras' `restore_best_weights`.

    `fit` then compares the validation's loss after each epoch, and `kept` gives the state with the
    best net. The training itself stays the same to the bit.

    Example:
      >>> import jaxconv
      >>> net = jaxconv.classifier(jaxconv.create_model("dense"), jaxconv.rmsprop())
      >>> state = keep_best(net.init(jax.random.key(0), (28, 28, 1)))
      >>> data = jaxconv.load_dataset("mnist").train
      >>> given = {"epochs": 2, "batch_size": 64, "validation": data[-100:]}
      >>> state, history = jaxconv.fit(net, state, data[:256], **given)
      >>> bool(state.best.loss == jax.numpy.float32(min(row["val_loss"] for row in history)))
      True

    Source: https://keras.io/api/callbacks/early_stopping/
    """
    best = Best(jnp.full((), jnp.inf), state.params, state.batch_stats)
    return state._replace(best=jax.tree.map(jnp.copy, best))


def kept(state: TrainState) -> TrainState:
    """The state with the net to use, also of stacked states: the best, an average, or its own.

    Example:
      >>> import jaxconv
      >>> net = jaxconv.classifier(jaxconv.create_model("dense"), jaxconv.rmsprop())
      >>> state = net.init(jax.random.key(0), (28, 28, 1))
      >>> kept(state) is state
      True
    """
    if isinstance(state.best, Best):
        return state._replace(params=state.best.params, batch_stats=state.best.batch_stats)
    return averaged(state)


def check_validation(validation: object, early_stopping: int | None, state: TrainState) -> None:
    """Refuses early stopping and `keep_best` without a validation."""
    if validation is None and (early_stopping is not None or isinstance(state.best, Best)):
        raise ValueError(
            "early_stopping and keep_best compare the loss on held-out samples: pass validation."
        )


def update_best(states: TrainState, losses: Sequence[float]) -> TrainState:
    """Takes the nets of those replicas of a stack whose loss has fallen, if they keep the best."""
    if not isinstance(states.best, Best):
        return states
    return _update(states, np.asarray(losses, np.float32))


@jax.jit
def _update(states, losses):
    better, own = losses < states.best.loss, averaged(states)

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    new = Best(losses, own.params, own.batch_stats)
    return states._replace(best=jax.tree.map(choose, new, states.best))
