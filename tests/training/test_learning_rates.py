import numpy as np
import pytest

from jaxconv.training import SCHEDULES, learning_rate_schedule

STEPS = 200


def cosine(low: float, high: float, share: np.ndarray) -> np.ndarray:
    """Half a cosine from `high` (share 0) to `low` (share 1)."""
    return low + (high - low) * (1 + np.cos(np.pi * share)) / 2


def expected(name: str, t: np.ndarray) -> np.ndarray:
    """The closed form of each schedule with the peak 1."""
    if name == "cosine":
        return cosine(0, 1, t)
    if name == "onecycle":
        up, down = cosine(1, 1 / 25, t / 0.3), cosine(1 / 25e4, 1, (t - 0.3) / 0.7)
        return np.where(t < 0.3, up, down)
    return np.where(t < 0.1, t / 0.1, cosine(0, 1, (t - 0.1) / 0.9))


@pytest.mark.parametrize("name", [x for x in SCHEDULES if x != "constant"])
def test_a_schedule_is_its_closed_form(name):
    rate = learning_rate_schedule(name, 0.5, STEPS)
    found = [float(rate(step)) for step in range(STEPS + 1)]
    shares = np.arange(STEPS + 1) / STEPS
    np.testing.assert_allclose(found, 0.5 * expected(name, shares), rtol=1e-4, atol=1e-7)


def test_a_constant_rate_stays_a_number():
    assert learning_rate_schedule("constant", 0.5, STEPS) == 0.5


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_a_short_training_has_finite_rates(name, steps):
    rate = learning_rate_schedule(name, 0.5, steps)
    found = [float(rate(step)) if callable(rate) else rate for step in range(steps)]
    assert np.isfinite(found).all()
    assert 0 <= min(found) <= max(found) <= 0.5


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="Unknown schedule 'cosin' \\(did you mean 'cosine'"):
        learning_rate_schedule("cosin", 0.5, STEPS)
    with pytest.raises(ValueError, match="steps must be a positive integer, not 0"):
        learning_rate_schedule("cosine", 0.5, 0)
