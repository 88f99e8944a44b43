"""A moving average of the weights, kept beside them in the optimizer's state."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from jaxconv.training.state import TrainState


class AverageState(NamedTuple):
    """The state of an optimizer that keeps an average."""

    steps: Int[Array, ""]
    """The steps taken."""
    params: PyTree[Array]
    """The average; before the first step the initial parameters."""
    inner: optax.OptState
    """The state of the optimizer itself."""


def average_weights(
    tx: optax.GradientTransformation, ema_momentum: float
) -> optax.GradientTransformationExtraArgs:
    r"""Makes an optimizer keep an exponential moving average of the weights, as Keras' `use_ema`.

    .. math:: a_1 ← p_1, \quad a_t ← μ a_{t - 1} + (1 - μ) p_t

    Training stays the same to the bit. `averaged` gives the state with the average. In a chain it
    comes last: it averages what its own optimizer makes of the weights.

    Args:
      tx: the optimizer.
      ema_momentum: μ, in [0, 1): 1 / (1 - μ) is about the number of steps that the average spans.

    Raises:
      ValueError: if `ema_momentum` is out of its range.

    Example:
      >>> tx = average_weights(optax.sgd(1.0), 0.75)
      >>> params = jnp.array([8.0])
      >>> state = tx.init(params)
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.array([4.0]), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> params, state.params  # 8, 4, 0; 0.75 · 4 + 0.25 · 0
      (Array([0.], dtype=float32), Array([3.], dtype=float32))

    Source: https://keras.io/api/optimizers/ (`use_ema`, `ema_momentum`); Polyak and Juditsky, 1992,
    https://doi.org/10.1137/0330046
    """
    if not 0 <= ema_momentum < 1:
        raise ValueError(f"ema_momentum must be in [0, 1), not {ema_momentum!r}.")
    tx = optax.with_extra_args_support(tx)

    def init(params: optax.Params) -> AverageState:
        copies = jax.tree.map(jnp.copy, params)
        return AverageState(jnp.zeros([], jnp.int32), copies, tx.init(params))

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, optax.OptState]:
        assert isinstance(state, AverageState)
        assert params is not None
        updates, inner = tx.update(updates, state.inner, params, **extra_args)

        def move(average: jax.Array, p: jax.Array) -> jax.Array:
            own = jnp.where(state.steps > 0, ema_momentum, 0).astype(p.dtype)
            return own * average + (1 - own) * p

        new = optax.apply_updates(params, updates)
        average = jax.tree.map(move, state.params, new)
        return updates, AverageState(state.steps + 1, average, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def averaged(state: TrainState) -> TrainState:
    """Puts the average in place of the parameters, for evaluation; also of stacked states.

    A state whose optimizer keeps no average stays as it is.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), average_weights(jaxconv.rmsprop(), 0.99)
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> averaged(state).params is state.opt_state.params
      True
    """

    def is_average(x: object) -> bool:
        return isinstance(x, AverageState)

    parts = jax.tree.leaves(state.opt_state, is_leaf=is_average)
    average = next(filter(is_average, parts), None)
    return state if average is None else state._replace(params=average.params)
