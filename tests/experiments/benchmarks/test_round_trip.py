import json

import numpy as np
import pytest

import jaxconv
from experiments.benchmarks import round_trip


@pytest.fixture
def few(mnist):
    return jaxconv.Split(mnist.test.image[:5], mnist.test.label[:5])


@pytest.fixture
def nearest(few):
    """A net that names a digit by the nearest of the five; it is right about each of them."""
    known = few.image / 255

    def predict(images):
        distance = ((images[:, None] / 255 - known) ** 2).sum(axis=(2, 3, 4))
        return np.eye(10)[few.label[distance.argmin(axis=1)]]

    return predict


def test_every_round_trip_of_digits_is_measured_and_kept(
    few, nearest, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(jaxconv, "load_dataset", lambda _: jaxconv.Dataset("few", few, few, 10))
    monkeypatch.setattr(round_trip, "trained_lab6", lambda _: nearest)
    output = tmp_path / "trips.json"
    content = round_trip.main(output=str(output))
    assert json.loads(output.read_text()) == content
    shares = content["accuracy"]
    assert shares.keys() == {"not prepared", *round_trip.TRIPS}
    assert {own["accuracy"] for own in shares.values()} == {1.0}
    assert shares["as it is"]["same"] == 1
    assert "| as it is | 1.0000 | 0.0000 | 1.0000 |" in capsys.readouterr().out


def test_a_picture_that_is_refused_counts_as_an_error(few, nearest, monkeypatch):
    monkeypatch.setattr(round_trip, "TRIPS", {"none": lambda digit, _: digit * 0})
    shares = round_trip.measure(nearest, few)["none"]
    assert shares == {"accuracy": 0, "refused": 1, "same": 0}


def test_each_round_trip_changes_what_it_says(few):
    seven = few.image[0]
    rng = np.random.default_rng(0)
    made = {trip: own(seven, rng).astype(int) for trip, own in round_trip.TRIPS.items()}
    large = made["large"]
    assert {picture.shape for picture in made.values()} == {(28, 28, 1), (224, 224)}
    np.testing.assert_array_equal(large[42:182, 42:182].max(), 255)
    assert large.sum() == large[42:182, 42:182].sum()
    # Bicubic enlargement keeps the mean, but for what it cuts off at 0 and 255.
    assert large[42:182, 42:182].mean() == pytest.approx(seven.mean(), rel=0.05)
    np.testing.assert_array_equal(made["inverted"], 255 - large)
    np.testing.assert_array_equal(np.sort(made["off centre"], axis=None), np.sort(large, axis=None))
    assert (made["off centre"] != large).any()
    assert 0 < np.abs(made["JPEG"] - large).mean() < 3
    inside = (large > 64) & (large < 191)
    assert (made["noise"] - large)[inside].std() == pytest.approx(15, rel=0.1)
    assert np.median(made["paper"]) == pytest.approx(215, abs=5)
    assert made["paper"][large == 255].mean() == pytest.approx(50, abs=1)
