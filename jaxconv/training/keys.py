"""Every random key of a run, folded from its root key; no other module folds it.

    fold_in(fold_in(rng, 0), epoch)  the order of an epoch
    fold_in(fold_in(rng, 1), step)   the dropout of a step
    fold_in(rng, 2)                  the initial parameters
    fold_in(fold_in(rng, 3), step)   the augmentation of a step; folded again for each image

Each purpose has its own number, so that no key serves twice. A key follows from the root key and a
position alone, so that a run resumes without the state of a generator.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32, Key

Rng = Key[Array, ""]
"""A root key: `jax.random.key(seed)`."""

_ORDER, _DROPOUT, _INIT, _AUGMENT = 0, 1, 2, 3


def as_key(rng: Any) -> Rng:
    """Wraps a key of the older form, `uint32[2]`, in a typed one; a typed key stays.

    Raises:
      TypeError: if `rng` is no key.

    Example:
      >>> as_key(jax.random.PRNGKey(3)) == jax.random.key(3)
      Array(True, dtype=bool)
    """
    if not isinstance(rng, jax.Array | np.ndarray):
        raise TypeError(f"rng must be a PRNG key such as jax.random.key(0), not {rng!r}.")
    key = jnp.asarray(rng)
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)


def order_key(rng: Rng, epoch: int | Int[Array, ""]) -> Rng:
    """The key that shuffles an epoch, counted from 0: `fold_in(fold_in(rng, 0), epoch)`.

    Example:
      >>> order_key(jax.random.key(0), 1) == order_key(jax.random.key(0), 2)
      Array(False, dtype=bool)
    """
    return jax.random.fold_in(jax.random.fold_in(rng, _ORDER), epoch)


def dropout_key(rng: Rng, step: int | Int[Array, ""]) -> Rng:
    """The key of the dropout of a step, counted from 0: `fold_in(fold_in(rng, 1), step)`.

    Example:
      >>> dropout_key(jax.random.key(0), 1) == order_key(jax.random.key(0), 1)
      Array(False, dtype=bool)
    """
    return jax.random.fold_in(jax.random.fold_in(rng, _DROPOUT), step)


def init_key(rng: Rng) -> Rng:
    """The key of the initial parameters: `fold_in(rng, 2)`.

    Example:
      >>> init_key(jax.random.key(0)) == init_key(jax.random.key(1))
      Array(False, dtype=bool)
    """
    return jax.random.fold_in(rng, _INIT)


def augment_keys(rng: Rng, step: int | Int[Array, ""], images: int) -> Key[Array, " images"]:
    """A key for each image of a step's batch: `fold_in(fold_in(fold_in(rng, 3), step), place)`.

    It follows from the image's place in the batch alone: a longer batch, or one that devices share,
    has the same keys at the same places.

    Example:
      >>> keys = augment_keys(jax.random.key(0), 7, 3)
      >>> bool((keys == augment_keys(jax.random.key(0), 7, 5)[:3]).all())
      True
    """
    key = jax.random.fold_in(jax.random.fold_in(rng, _AUGMENT), step)
    return jax.vmap(lambda place: jax.random.fold_in(key, place))(jnp.arange(images))


def epoch_permutation(
    rng: Rng, epoch: int | Int[Array, ""], samples: int
) -> Int32[Array, " samples"]:
    """The order of the samples in an epoch, counted from 0: a permutation of `range(samples)`.

    Example:
      >>> order = epoch_permutation(jax.random.key(0), 0, 5)
      >>> sorted(order.tolist())
      [0, 1, 2, 3, 4]
    """
    return jax.random.permutation(order_key(rng, epoch), jnp.arange(samples, dtype=jnp.int32))
