import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv import (
    categorical_crossentropy,
    one_hot_labels,
    smoothed_crossentropy,
    sparse_categorical_crossentropy,
)
from tests.support import oracles

LOGITS = np.random.default_rng(0).normal(scale=5, size=(64, 10)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 10, size=64)
ONE_HOT = np.eye(10, dtype=np.float32)[LABELS]


def test_both_losses_match_numpy_and_each_other():
    expected = -oracles.log_softmax(LOGITS)[np.arange(64), LABELS]
    for found in (
        sparse_categorical_crossentropy(jnp.asarray(LOGITS), jnp.asarray(LABELS)),
        categorical_crossentropy(jnp.asarray(LOGITS), jnp.asarray(ONE_HOT)),
        one_hot_labels(categorical_crossentropy)(jnp.asarray(LOGITS), jnp.asarray(LABELS)),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_smoothed_targets_are_those_of_keras(smoothing):
    import keras

    theirs = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing, reduction=None
    )
    found = smoothed_crossentropy(smoothing)(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    np.testing.assert_allclose(found, theirs(ONE_HOT, LOGITS), rtol=1e-5, atol=1e-6)
    targets = ONE_HOT * (1 - smoothing) + smoothing / 10
    expected = -(targets * oracles.log_softmax(LOGITS)).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_no_other_smoothing_makes_sense(smoothing):
    with pytest.raises(ValueError, match=f"must be in \\[0, 1\\), not {smoothing}"):
        smoothed_crossentropy(smoothing)


def test_the_gradient_is_softmax_minus_one_hot():
    expected = np.exp(oracles.log_softmax(LOGITS)) - ONE_HOT
    for loss, labels in (
        (sparse_categorical_crossentropy, LABELS),
        (categorical_crossentropy, ONE_HOT),
    ):
        found = jax.grad(lambda x, loss=loss, y=labels: loss(x, jnp.asarray(y)).sum())(LOGITS)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    "loss", [sparse_categorical_crossentropy, one_hot_labels(categorical_crossentropy)]
)
def test_a_label_that_is_no_class_gives_nan(loss):
    found = loss(jnp.asarray(LOGITS[:4]), jnp.array([-1, 0, 9, 10]))
    np.testing.assert_array_equal(jnp.isnan(found), [True, False, False, True])


def test_the_gradient_needs_no_scatter():
    labels = jnp.asarray(LABELS)
    grad = jax.grad(lambda x: sparse_categorical_crossentropy(x, labels).sum())
    program = jax.jit(grad).lower(LOGITS).as_text()
    assert "scatter" not in program
    assert "gather" not in program


def test_extreme_logits_stay_finite_and_are_not_clipped():
    logits = jnp.array([[1e4, -1e4], [-1e4, 1e4]])
    np.testing.assert_allclose(
        sparse_categorical_crossentropy(logits, jnp.array([0, 0])), [0.0, 2e4]
    )


def test_bfloat16_logits_are_widened():
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    loss = sparse_categorical_crossentropy(logits, jnp.asarray(LABELS))
    assert loss.dtype == jnp.float32
    expected = sparse_categorical_crossentropy(logits.astype(jnp.float32), jnp.asarray(LABELS))
    np.testing.assert_array_equal(loss, expected)


@pytest.mark.usefixtures("untyped")
def test_integer_labels_for_one_hot_ones_are_refused():
    with pytest.raises(ValueError, match=r"\(64, 10\), not \(64,\): wrap it in one_hot_labels"):
        categorical_crossentropy(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    with pytest.raises(ValueError, match="one_hot_labels takes integer labels, not float32"):
        one_hot_labels(categorical_crossentropy)(jnp.asarray(LOGITS), jnp.asarray(ONE_HOT))
