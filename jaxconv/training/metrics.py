"""Metrics: named sums over samples with one `count`; sums merge by addition, the mean comes last.

A step returns `{"loss": sum, "accuracy": sum, "count": n}`; an epoch returns the same names, each
with one value per step. The host adds up and divides in float64, so that every sample counts once
and no chunking of an epoch changes a digit.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Shaped

Metric = Callable[..., Array]
"""`(logits, labels) -> [N]`, one value per sample."""
Row = dict[str, float]
"""Means by name, as `mean` returns them; a history's row also has `epoch` and `seconds`."""


def accuracy(
    logits: Float[Array, "*batch classes"], labels: Shaped[Array, "..."]
) -> Bool[Array, "*batch"]:
    """Whether the largest logit is the label's, for each sample.

    Args:
      logits: `[N, num_classes]`.
      labels: integers `[N]`, or one-hot `[N, num_classes]`.

    Example:
      >>> accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1]))
      Array([ True, False], dtype=bool)
    """
    if labels.ndim == logits.ndim:
        labels = jnp.argmax(labels, axis=-1)
    return jnp.argmax(logits, axis=-1) == labels


def mean(sums: Mapping[str, ArrayLike]) -> Row:
    """Divides each sum by the count, after adding up the steps of an epoch in float64.

    Args:
      sums: scalars, or arrays with one value per step; one of them is the `count`. With a `weight`,
        which is the sum of the samples' weights, it divides all but the loss, as in Keras.

    Raises:
      ValueError: if no sample was counted.

    Example:
      >>> mean({"loss": np.array([3.0, 1.0]), "count": np.array([2, 2])})
      {'loss': 1.0}
    """
    total = {name: np.asarray(x).sum(dtype=np.float64).item() for name, x in sums.items()}
    count = total.pop("count")
    weight = total.pop("weight", count)
    if count == 0 or weight == 0:
        raise ValueError("No sample was counted: the data set is empty or masked out entirely.")
    return {name: x / (count if name == "loss" else weight) for name, x in total.items()}


def means_of_replicas(sums: Mapping[str, np.ndarray]) -> list[Row]:
    """The `mean` of each replica, from sums `[replicas, ...]` on the host."""
    return [mean({name: x[i] for name, x in sums.items()}) for i in range(len(sums["count"]))]
