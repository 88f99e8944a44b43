import math

import numpy as np
import pytest

from jaxconv.measure import calibration_error
from jaxconv.runs.ensemble import ensemble_figures
from jaxconv.runs.result_lines import result_lines
from tests.runs.test_trained import SMALL, made


def test_the_figures_are_those_of_the_mean_probabilities(digits):
    trained, label = made(SMALL, 0, 1, 2, test_accuracy=(0.1, None, 0.2)), digits.test.label
    figures = ensemble_figures(trained, digits.test)
    own = [trained.predict(digits.test.image, members=[i]).astype(np.float64) for i in (0, 2)]
    mean = (own[0] + own[1]) / 2
    assert figures["ensemble_accuracy"] == (mean.argmax(-1) == label).mean()
    losses = [-math.log(row[i]) for row, i in zip(mean, label, strict=True)]
    assert figures["ensemble_loss"] == pytest.approx(np.mean(losses), rel=1e-6)
    assert figures["ensemble_calibration_error"] == pytest.approx(calibration_error(mean, label))
    errors = [calibration_error(x, label) for x in own]
    assert figures["test_calibration_error"] == pytest.approx(np.mean(errors))


@pytest.mark.parametrize("accuracies", [(None, 0.5), (None, None)])
def test_there_is_none_of_fewer_than_two(accuracies, digits):
    assert ensemble_figures(made(SMALL, 0, 1, test_accuracy=accuracies), digits.test) == {}


def test_it_is_printed_beside_the_mean_of_the_seeds():
    parts = ("", "_std", "_min", "_max", "_low", "_high")
    result = {f"test_{x}{end}": 0.5 for x in ("loss", "accuracy") for end in parts}
    result |= {"seeds": [0, 1], "diverged": [], "test_calibration_error": 0.03125}
    assert "ensemble" not in result_lines(result)
    result |= {f"ensemble_{x}": 0.25 for x in ("accuracy", "loss", "calibration_error")}
    assert (
        "Their ensemble (and the mean of the seeds): accuracy 0.2500 (0.5000), "
        "loss 0.2500 (0.5000), calibration error 0.2500 (0.0312)"
    ) in result_lines(result)
