"""Losses: `(logits, labels) -> [N]`, one value per sample, softmax included.

This module computes crossentropy from the logits, as Keras' TensorFlow backend does even behind a
softmax layer. Keras on JAX and on torch computes the softmax first and clips it to
[1e-7, 1 - 1e-7]: there the loss of a sample lies between 1e-7 and 16.1, and its gradient is zero at
both ends, so that an utterly wrong sample teaches nothing. `tests/training/test_keras_parity.py`
shows both.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from jaxconv.models.fusion import apart

Loss = Callable[..., Array]
"""`(logits, labels) -> [N]`, one value per sample."""


def sparse_categorical_crossentropy(
    logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """Crossentropy with integer labels: `-log softmax(logits)[label]`, in nats.

    The result is at least float32. A label outside `[0, num_classes)` gives NaN, since a compiled
    program cannot raise; `Dataset.from_arrays`, `fit` and `evaluate` refuse it. The gradient has no
    scatter, which GPUs add up in any order.

    Args:
      logits: `[N, num_classes]`, before any softmax.
      labels: `[N]`, in `[0, num_classes)`.

    Example:
      >>> sparse_categorical_crossentropy(jnp.zeros((1, 10)), jnp.array([3]))  # log(10)
      Array([2.3025851], dtype=float32)

    Source: https://keras.io/api/losses/probabilistic_losses/ (SparseCategoricalCrossentropy)
    """
    wide = widen(logits)
    of_label = jnp.where(_one_hot(labels, wide), wide, 0).sum(axis=-1)
    of_label = jnp.where(_known(labels, wide), of_label, jnp.nan)
    # Apart, since the CPU would round the sum of the two gradients in another way than a scatter.
    return jax.nn.logsumexp(apart(wide), axis=-1) - of_label


def categorical_crossentropy(
    logits: Float[Array, "*batch classes"], labels: Float[Array, "*batch classes"]
) -> Float[Array, "*batch"]:
    """Crossentropy with one-hot (or soft) labels: `-sum(labels * log softmax(logits))`, in nats.

    The result is at least float32.

    Args:
      logits: `[N, num_classes]`, before any softmax.
      labels: `[N, num_classes]`, a probability for each class.

    Raises:
      ValueError: if labels and logits differ in shape, as integer labels do.

    Example:
      >>> categorical_crossentropy(jnp.zeros((1, 10)), jax.nn.one_hot(jnp.array([3]), 10))
      Array([2.3025851], dtype=float32)

    Source: https://keras.io/api/losses/probabilistic_losses/ (CategoricalCrossentropy)
    """
    if labels.shape != logits.shape:
        raise ValueError(
            f"categorical_crossentropy takes labels of the logits' shape {logits.shape}, not "
            f"{labels.shape}: wrap it in one_hot_labels, or use sparse_categorical_crossentropy."
        )
    return optax.softmax_cross_entropy(widen(logits), labels)


def one_hot_labels(loss: Loss) -> Loss:
    """Wraps a loss of one-hot labels, such as `categorical_crossentropy`, to take integer ones.

    The labels become one-hot inside the compiled program; a label outside `[0, num_classes)` gives
    NaN. The loss raises ValueError if they are not integers.

    Example:
      >>> loss = one_hot_labels(categorical_crossentropy)
      >>> loss(jnp.zeros((1, 10)), jnp.array([3]))
      Array([2.3025851], dtype=float32)

    Source: `keras.utils.to_categorical` in notebooks 000 and 004.
    """

    def integer_label_loss(
        logits: Float[Array, "*batch classes"], labels: Int[Array, "*batch"]
    ) -> Float[Array, "*batch"]:
        if not jnp.issubdtype(labels.dtype, jnp.integer):
            raise ValueError(f"one_hot_labels takes integer labels, not {labels.dtype}.")
        wide = widen(logits)
        values = loss(wide, _one_hot(labels, wide).astype(wide.dtype))
        return jnp.where(_known(labels, wide), values, jnp.nan)

    return integer_label_loss


def smoothed_crossentropy(label_smoothing: float) -> Loss:
    """Makes the crossentropy whose targets are spread: `1 - s + s / classes` for the label's class.

    The other classes get `s / classes` each, with `s` the `label_smoothing`. The net learns not to
    be certain; the smallest possible loss is no longer 0.

    Args:
      label_smoothing: in [0, 1).

    Returns:
      `(logits, labels) -> [N]`, for integer labels.

    Raises:
      ValueError: if `label_smoothing` is not in [0, 1).

    Example:
      >>> loss = smoothed_crossentropy(0.1)
      >>> loss(jnp.array([[0.0, 9.0]]), jnp.array([1])).round(2)  # 0.05 · 9
      Array([0.45], dtype=float32)

    Source: https://keras.io/api/losses/probabilistic_losses/ (CategoricalCrossentropy,
    `label_smoothing`); Szegedy et al., 2016, https://arxiv.org/abs/1512.00567
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1), not {label_smoothing!r}.")

    def smoothed(logits: Array, labels: Array) -> Array:
        share = label_smoothing / logits.shape[-1]
        return categorical_crossentropy(logits, labels * (1 - label_smoothing) + share)

    return one_hot_labels(smoothed)


def _one_hot(labels: Array, logits: Array) -> Array:
    return labels[..., None] == lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)


def _known(labels: Array, logits: Array) -> Array:
    return (labels >= 0) & (labels < logits.shape[-1])


def widen(logits: Array) -> Array:
    """Converts logits of fewer than 32 bits to float32."""
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
