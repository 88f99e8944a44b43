import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv import accuracy
from jaxconv.training.metrics import mean


def test_accuracy_takes_integer_and_one_hot_labels():
    logits = jnp.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.2, 0.3, 0.5]])
    labels = np.array([1, 1, 2])
    for given in (labels, np.eye(3)[labels]):
        np.testing.assert_array_equal(accuracy(logits, jnp.asarray(given)), [True, False, True])


def test_rows_of_an_epoch_are_added_up_in_float64():
    rows = np.full(100_000, 0.1, np.float32)
    found = mean({"loss": rows, "count": np.ones(100_000, np.int32)})["loss"]
    assert found == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_nothing_to_average_is_an_error():
    with pytest.raises(ValueError, match="No sample was counted"):
        mean({"loss": 0.0, "count": 0})
