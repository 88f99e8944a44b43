"""Keras' Adam and RMSprop to the letter, as optax transforms; for other optimizers use optax.

Keras and optax place epsilon differently. The effect is small, but after 50 steps the parameters of
`optax.adam(eps=1e-7)` are 3.5e-3 away from those of Keras.
"""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree


def check_tx(tx: object) -> None:
    """Refuses all but optax transforms.

    Example:
      >>> check_tx(optax.adam)
      Traceback (most recent call last):
      TypeError: tx must be an optax transform such as optax.adam(1e-3), not the function adam: ...
    """
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        name = getattr(tx, "__name__", None)
        given = f"the function {name}: call it" if name and callable(tx) else repr(tx)
        raise TypeError(f"tx must be an optax transform such as optax.adam(1e-3), not {given}.")


def check_opt_state(
    tx: optax.GradientTransformation, opt_state: PyTree, params: PyTree[Array]
) -> None:
    """Refuses an optimizer's state that another transform has made, if its tree differs.

    Example:
      >>> params = {"bias": jnp.zeros(3)}
      >>> check_opt_state(adam(), rmsprop().init(params), params)
      Traceback (most recent call last):
      ValueError: The state is of another optimizer: its opt_state is ...
    """
    own = jax.eval_shape(tx.init, params)
    if jax.tree.structure(opt_state) != jax.tree.structure(own):
        raise ValueError(
            f"The state is of another optimizer: its opt_state is {_names(opt_state)}, and this "
            f"one's is {_names(own)}. Make the state by the init of the same classifier."
        )


def update(
    tx: optax.GradientTransformation,
    grads: PyTree[Array],
    opt_state: PyTree,
    params: PyTree[Array],
    **more: Any,
) -> tuple[PyTree[Array], PyTree]:
    """The transform's update, given those of `more` that it takes.

    Raises:
      ValueError: if the transform needs more than a step has.

    Example:
      >>> params = {"bias": jnp.zeros(3)}
      >>> state = optax.sgd(0.1).init(params)
      >>> update(optax.sgd(0.1), {"bias": jnp.ones(3)}, state, params, value=0.5)[0]["bias"]
      Array([-0.1, -0.1, -0.1], dtype=float32)
    """
    name = getattr(tx.update, "__qualname__", "update").split(".")[0]
    tx = optax.with_extra_args_support(tx)
    taken = inspect.signature(tx.update).parameters
    if all(x.kind is not inspect.Parameter.VAR_KEYWORD for x in taken.values()):
        more = {name: x for name, x in more.items() if name in taken}
    try:
        return tx.update(grads, opt_state, params, **more)
    except (AttributeError, TypeError) as error:
        raise ValueError(
            f"The optimizer {name} fails: {error}. A step gives it the gradients, its state, one "
            "tree of parameters, value, grad and value_fn: take one that needs no more."
        ) from error


def _names(opt_state: PyTree) -> str:
    parts = jax.tree.leaves(opt_state, is_leaf=lambda x: hasattr(x, "_fields"))
    return " + ".join(type(x).__name__ for x in parts)


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
