"""Keras' Adam, RMSprop and weight decay to the letter; for other optimizers use optax.

Keras and optax place epsilon differently. The effect is small, but after 50 steps the parameters of
`optax.adam(eps=1e-7)` are 3.5e-3 away from those of Keras.
"""

import math

import jax
import jax.numpy as jnp
import optax


def rmsprop(
    learning_rate: optax.ScalarOrSchedule = 1e-3, rho: float = 0.9, epsilon: float = 1e-7
) -> optax.GradientTransformation:
    r"""Keras' RMSprop: epsilon inside the square root.

    .. math:: v ← ρ v + (1 - ρ) g^2, \quad p ← p - η g / \sqrt{v + ε}

    Args:
      learning_rate: a number, or an optax schedule of the step.
      rho: the decay of the running mean of squared gradients.
      epsilon: keeps the divisor from zero.

    Example:
      >>> tx = rmsprop(0.1)
      >>> update, _ = tx.update(jnp.array([2.0]), tx.init(jnp.array([1.0])))
      >>> f"{update[0]:.4f}"  # -0.1 · 2 / √(0.1 · 2²)
      '-0.3162'

    Source: https://keras.io/api/optimizers/rmsprop/
    """
    return optax.rmsprop(learning_rate, decay=rho, eps=epsilon)


def adam(
    learning_rate: optax.ScalarOrSchedule = 1e-3,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> optax.GradientTransformation:
    r"""Keras' Adam: epsilon joins the divisor before the bias correction.

    .. math:: m ← β_1 m + (1 - β_1) g, \quad v ← β_2 v + (1 - β_2) g^2, \quad
      p ← p - η \frac{\sqrt{1 - β_2^t}}{1 - β_1^t} \frac{m}{\sqrt{v} + ε}

    Args:
      learning_rate: a number, or an optax schedule of the step.
      beta_1: the decay of the first moment.
      beta_2: the decay of the second moment.
      epsilon: keeps the divisor from zero ("epsilon hat" in the paper, section 2).

    Example:
      >>> tx = adam(0.1)
      >>> update, _ = tx.update(jnp.array([2.0]), tx.init(jnp.array([1.0])))
      >>> f"{update[0]:.4f}"
      '-0.1000'

    Source: Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980;
    https://keras.io/api/optimizers/adam/
    """

    def init(params: optax.Params) -> optax.ScaleByAdamState:
        zeros = optax.tree.zeros_like(params)
        return optax.ScaleByAdamState(jnp.zeros([], jnp.int32), mu=zeros, nu=zeros)

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        del params
        assert isinstance(state, optax.ScaleByAdamState)
        count = jnp.asarray(optax.safe_increment(state.count))
        mu = jax.tree.map(lambda m, g: beta_1 * m + (1 - beta_1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: beta_2 * v + (1 - beta_2) * g * g, state.nu, updates)

        def direction(m: jax.Array, v: jax.Array) -> jax.Array:
            # In bfloat16 beta_2**t would round to 1, and the step to 0.
            t = count.astype(jnp.promote_types(m.dtype, jnp.float32))
            alpha = jnp.sqrt(1 - beta_2**t) / (1 - beta_1**t)
            # The slope of the root of 0 is infinite: a gradient through the step would be NaN.
            root = jnp.where(v > 0, jnp.sqrt(jnp.where(v > 0, v, 1)), 0)
            return alpha.astype(m.dtype) * m / (root + epsilon)

        return jax.tree.map(direction, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    return optax.chain(
        optax.GradientTransformation(init, update), optax.scale_by_learning_rate(learning_rate)
    )


def regularize(
    tx: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    *,
    weight_decay: float = 0.0,
    global_clipnorm: float | None = None,
) -> optax.GradientTransformation:
    r"""Adds Keras' `global_clipnorm` and `weight_decay` to an optimizer.

    The gradients, all together as one vector, are first scaled to a norm of `global_clipnorm` at
    most. Each step then also subtracts `learning_rate · weight_decay` times the parameters, all of
    them, as in AdamW.

    Args:
      tx: the optimizer.
      learning_rate: that of `tx`, a number or a schedule.
      weight_decay: 0 for none.
      global_clipnorm: None for no limit.

    Returns:
      The optimizer; `tx` itself if neither is given.

    Raises:
      ValueError: if `weight_decay` is negative, `global_clipnorm` is not positive, or one is not
        finite.

    Example:
      >>> params = jnp.array([2.0])
      >>> tx = regularize(optax.sgd(0.1), 0.1, weight_decay=0.5, global_clipnorm=1.0)
      >>> tx.update(jnp.array([3.0]), tx.init(params), params)[0]  # -0.1 · 1 - 0.1 · 0.5 · 2
      Array([-0.2], dtype=float32)

    Source: https://keras.io/api/optimizers/ (`weight_decay`, `global_clipnorm`); Loshchilov and
    Hutter, 2019, https://arxiv.org/abs/1711.05101
    """
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay must be 0 or a positive number, not {weight_decay!r}.")
    if global_clipnorm is not None and not 0 < global_clipnorm < math.inf:
        raise ValueError(f"global_clipnorm must be a positive number, not {global_clipnorm!r}.")
    parts = [tx]
    if global_clipnorm is not None:
        parts.insert(0, optax.clip_by_global_norm(global_clipnorm))
    if weight_decay:
        parts.append(_decay(learning_rate, weight_decay))
    return optax.chain(*parts) if len(parts) > 1 else tx


def _decay(
    learning_rate: optax.ScalarOrSchedule, weight_decay: float
) -> optax.GradientTransformation:
    def init(params: optax.Params) -> optax.ScaleByScheduleState:
        del params
        return optax.ScaleByScheduleState(jnp.zeros([], jnp.int32))

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        assert isinstance(state, optax.ScaleByScheduleState)
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate

        def decayed(u: jax.Array, p: jax.Array) -> jax.Array:
            return u - jnp.asarray(rate * weight_decay, p.dtype) * p

        count = jnp.asarray(optax.safe_increment(state.count))
        return jax.tree.map(decayed, updates, params), optax.ScaleByScheduleState(count)

    return optax.GradientTransformation(init, update)
