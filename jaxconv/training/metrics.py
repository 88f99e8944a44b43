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

from jaxconv.data.arrays import Batch

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


def with_loss(loss: Metric, metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The loss and the metrics by name.

    Raises:
      ValueError: if a metric has a name that the sums use themselves.

    Example:
      >>> list(with_loss(accuracy, {"right": accuracy}))
      ['loss', 'right']
    """
    taken = sorted({"loss", "count", "weight"} & metrics.keys())
    if taken:
        raise ValueError(f"The steps report {' and '.join(taken)} themselves: rename the metric.")
    return {"loss": loss, **metrics}


def add_up(metric_fns: Mapping[str, Metric], logits: Array, batch: Batch) -> dict[str, Array]:
    """The sum of each metric over the samples that count, and their count and weight.

    Raises:
      ValueError: for labels, masks or weights that do not fit the logits.

    Example:
      >>> batch = {"label": jnp.array([1, 1]), "mask": jnp.array([True, False])}
      >>> sums = add_up({"right": accuracy}, jnp.array([[0.1, 0.9], [0.8, 0.2]]), batch)
      >>> {name: int(x) for name, x in sums.items()}
      {'right': 1, 'count': 1}
    """
    samples, label, sums = logits.shape[:1], jnp.asarray(batch["label"]), {}
    mask, weight = (
        jnp.asarray(batch[name]) if name in batch else None for name in ("mask", "weight")
    )
    for name, values in (("mask", mask), ("weight", weight)):
        if values is not None and values.shape != samples:
            raise ValueError(
                f"The {name} must have one value per sample, {samples}, not {values.shape}."
            )
    if mask is not None and jnp.issubdtype(mask.dtype, jnp.floating):
        raise ValueError(
            f"The mask says which samples count: pass booleans, not {mask.dtype}. Fractions are "
            "weights: name the field 'weight'."
        )
    if label.shape not in (samples, logits.shape):
        raise ValueError(
            f"Labels must be integers {samples} or one-hot {logits.shape}, not {label.shape}"
            f"{': pass label[:, 0]' if label.shape == (*samples, 1) else ''}."
        )

    def total(values: Array) -> Array:
        if weight is not None:
            values = (values.astype(weight.dtype) if values.dtype == bool else values) * weight
        # No mask, no `where`: XLA does not always fold a mask of ones, and rounding would differ.
        return jnp.sum(values if mask is None else jnp.where(mask.astype(bool), values, 0))

    for name, metric_fn in metric_fns.items():
        values = metric_fn(logits, label)
        if values.shape != samples:
            raise ValueError(
                f"{name!r} must give one value per sample, {samples}, not {values.shape}."
            )
        sums[name] = total(values)
    if weight is not None:
        sums["weight"] = total(jnp.ones(samples, jnp.float32))
    count = samples[0] if mask is None else jnp.sum(mask.astype(bool), dtype=jnp.int32)
    return sums | {"count": jnp.asarray(count, jnp.int32)}


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
