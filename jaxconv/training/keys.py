"""How a run's root key is folded into every other key; no other module folds it.

    fold_in(fold_in(rng, 0), epoch)  the order of an epoch
    fold_in(fold_in(rng, 1), step)   a step's dropout
    fold_in(rng, 2)                  the initial parameters

Each purpose has its own number, so no key serves twice. Each key follows from the root key and a
position alone, so a run that resumes needs nothing but its epoch and step.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Int32, Key, UInt32

Rng = Key[Array, ""] | UInt32[Array, "2"]
"""A root key: `jax.random.key(seed)`, or the older form of two integers."""

_ORDER, _DROPOUT, _INIT = 0, 1, 2


def order_key(rng: Rng, epoch: int | Int[Array, ""]) -> Rng:
    """The key that shuffles an epoch.

    Example:
      >>> order_key(jax.random.key(0), 1) == order_key(jax.random.key(0), 2)
      Array(False, dtype=bool)
    """
    return jax.random.fold_in(jax.random.fold_in(rng, _ORDER), epoch)


def dropout_key(rng: Rng, step: int | Int[Array, ""]) -> Rng:
    """The key of a step's dropout; `step` counts from the start of the run.

    Example:
      >>> dropout_key(jax.random.key(0), 1) == order_key(jax.random.key(0), 1)
      Array(False, dtype=bool)
    """
    return jax.random.fold_in(jax.random.fold_in(rng, _DROPOUT), step)


def init_key(rng: Rng) -> Rng:
    """The key of the initial parameters.

    Example:
      >>> init_key(jax.random.key(0)) == init_key(jax.random.key(1))
      Array(False, dtype=bool)
    """
    return jax.random.fold_in(rng, _INIT)


def epoch_permutation(
    rng: Rng, epoch: int | Int[Array, ""], samples: int
) -> Int32[Array, " samples"]:
    """The order of the samples in an epoch, from the root key and the epoch's number alone.

    Example:
      >>> order = epoch_permutation(jax.random.key(0), 0, 5)
      >>> sorted(order.tolist())
      [0, 1, 2, 3, 4]
    """
    return jax.random.permutation(order_key(rng, epoch), jnp.arange(samples, dtype=jnp.int32))
