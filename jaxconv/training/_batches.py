"""A whole split as one batch: its way to the device, and a loop over its parts."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from jaxconv.data.arrays import Batch, Dataset, Split


def on_device(data: Split | Batch) -> dict[str, Array]:
    """Puts a whole split on the default device, as one batch; arrays on devices stay there.

    Raises:
      TypeError: if it is a whole data set.
      ValueError: if the fields have different numbers of samples, or none.

    Example:
      >>> on_device({"image": np.ones((3, 28, 28, 1)), "label": np.arange(4)})
      Traceback (most recent call last):
      ValueError: All fields need the same number of samples, at least one, not ...
    """
    if isinstance(data, Dataset):
        raise TypeError("Pass a split of the data set, such as data.train, not all of it.")
    batch = data.batch() if isinstance(data, Split) else data
    shapes = {name: np.shape(x) for name, x in batch.items()}
    lengths = {shape[0] if shape else None for shape in shapes.values()}
    # A compiled program would read past the end of a field that is too short, without an error.
    if len(lengths) != 1 or lengths & {0, None}:
        raise ValueError(f"All fields need the same number of samples, at least one, not {shapes}.")
    return {name: x if isinstance(x, jax.Array) else jax.device_put(x) for name, x in batch.items()}


def over_batches(function: Callable[[Any], PyTree], data: PyTree, batch_size: int) -> PyTree:
    """Applies a function to consecutive batches, the last at its own size; joins the results."""
    full, rest = divmod(len(jax.tree.leaves(data)[0]), batch_size)

    def result_at(step: int | Array, size: int) -> PyTree:
        cut = functools.partial(lax.dynamic_slice_in_dim, start_index=step * batch_size)
        return function(jax.tree.map(lambda x: cut(jnp.asarray(x), slice_size=size), data))

    results = []
    if full:
        looped = lax.map(lambda step: result_at(step, batch_size), jnp.arange(full))
        results.append(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), looped))
    if rest:
        results.append(result_at(full, rest))
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *results)
