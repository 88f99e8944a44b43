"""Metrics: named sums over samples with one `count`. They merge by addition; the mean comes last.

A step returns `{"loss": sum, "accuracy": sum, "count": n}`; an epoch returns the same with one row
a step. Adding up and dividing happen on the host in float64, so that every sample counts once, the
last partial batch by its true size, and no chunking of an epoch changes a digit.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Shaped

Metric = Callable[..., Array]
Sums = Mapping[str, ArrayLike]


def accuracy(
    logits: Float[Array, "*batch classes"], labels: Shaped[Array, "..."]
) -> Bool[Array, "*batch"]:
    """Whether the largest logit is the label's; labels are integers or one-hot.

    Example:
      >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1]))
      Array([ True, False], dtype=bool)
    """
    if labels.ndim == logits.ndim:
        labels = jnp.argmax(labels, axis=-1)
    return jnp.argmax(logits, axis=-1) == labels


def merge(*sums: Sums) -> dict[str, np.ndarray]:
    """Adds up sums of the same names.

    Raises:
      ValueError: if there is nothing to merge or the names differ.

    Example:
      >>> merge({"loss": 3.0, "count": 2}, {"loss": 1.0, "count": 2})
      {'loss': array(4.), 'count': array(4)}
    """
    if not sums or any(other.keys() != sums[0].keys() for other in sums):
        raise ValueError(f"Only metrics of the same names merge, not {[sorted(s) for s in sums]}.")
    return {
        name: np.asarray(np.sum([np.asarray(s[name]) for s in sums], axis=0)) for name in sums[0]
    }


def mean(sums: Sums) -> dict[str, float]:
    """The mean a sample of each sum; rows of a whole epoch are added up first, in float64.

    Raises:
      ValueError: if no sample was counted.

    Example:
      >>> mean({"loss": np.array([3.0, 1.0]), "count": np.array([2, 2])})
      {'loss': 1.0}
    """
    total = {name: np.asarray(rows).sum(dtype=np.float64).item() for name, rows in sums.items()}
    count = total.pop("count")
    if count == 0:
        raise ValueError("No sample was counted: the data set is empty or masked out entirely.")
    return {name: value / count for name, value in total.items()}
