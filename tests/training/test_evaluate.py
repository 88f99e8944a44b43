import jax
import numpy as np
import pytest

import jaxconv
from jaxconv import create_model, evaluate, predict

MODEL = create_model("dense", hidden=(16,))
NET = jaxconv.classifier(MODEL, jaxconv.adam())


@pytest.fixture
def state():
    return NET.init(jax.random.key(0), (28, 28, 1))


@pytest.mark.parametrize(
    ("samples", "batch_size"), [(70, 1), (70, 7), (70, 32), (70, 71), (1, 1), (33, 32)]
)
def test_every_sample_is_evaluated_once_at_any_batch_size(state, digits, samples, batch_size):
    split = jaxconv.Split(digits.test.image[:samples], digits.test.label[:samples])
    sums = jax.device_get(NET.eval_step(state, split.batch()))
    found = evaluate(NET, state, split, batch_size=batch_size)
    assert found["accuracy"] == sums["accuracy"] / samples
    assert found["loss"] == pytest.approx(sums["loss"] / samples, rel=1e-5)
    image = split.image
    one = predict(NET, state, image, batch_size=batch_size)
    np.testing.assert_allclose(one, predict(NET, state, image), atol=1e-6)
    np.testing.assert_allclose(one.sum(axis=-1), 1.0, atol=1e-5)


def test_padded_evaluation_equals_the_plain_one(state, digits):
    batch = digits.test.batch()
    padding = {"image": np.full((26, 28, 28, 1), 255, np.uint8), "label": np.zeros(26, np.int32)}
    padded = {name: np.concatenate([batch[name], padding[name]]) for name in batch}
    padded["mask"] = np.arange(96) < 70
    found = evaluate(NET, state, padded, batch_size=32)
    expected = evaluate(NET, state, batch, batch_size=32)
    assert found == pytest.approx(expected, rel=1e-6)


def test_predictions_and_evaluation_agree(state, digits):
    probabilities = predict(NET, state, digits.test.image)
    found = evaluate(NET, state, digits.test)
    picked = np.asarray(probabilities)[np.arange(70), digits.test.label]
    assert found["loss"] == pytest.approx(-np.log(picked).mean(), rel=1e-5)
    assert found["accuracy"] == (probabilities.argmax(-1) == digits.test.label).mean()


def test_nothing_to_evaluate_or_predict_is_refused(state, digits):
    with pytest.raises(ValueError, match="batch_size must be a positive integer, not 0"):
        evaluate(NET, state, digits.test, batch_size=0)
    with pytest.raises(ValueError, match=r"no image to predict: the shape is \(0, 28, 28, 1\)"):
        predict(NET, state, digits.test.image[:0])
    masked = {**digits.test.batch(), "mask": np.zeros(70, bool)}
    with pytest.raises(ValueError, match="No sample was counted"):
        evaluate(NET, state, masked)


def test_predict_passes_under_jit(state, digits):
    image = digits.test.image[:4] / np.float32(255)
    found = jax.jit(lambda image: predict(NET, state, image))(image)
    np.testing.assert_allclose(found, predict(NET, state, image), atol=1e-6)


def test_floats_that_nobody_scaled_give_a_warning(state, digits):
    image = digits.test.image[:4].astype(np.float32)
    with pytest.warns(UserWarning, match="The images go up to 255: divide them by 255"):
        predict(NET, state, image)
    batch = {"image": jax.numpy.asarray(image), "label": digits.test.label[:4]}
    with pytest.warns(UserWarning, match="The images go up to 255: divide them by 255"):
        evaluate(NET, state, batch)
