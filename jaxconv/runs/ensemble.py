"""The nets of several seeds together: their probabilities averaged."""

import numpy as np

from jaxconv.data.arrays import Split
from jaxconv.measure.statistics import calibration_error
from jaxconv.runs.trained import Trained


def ensemble_figures(trained: Trained, test: Split) -> dict[str, float]:
    """Evaluates the ensemble of the seeds that did not diverge; nothing if they are fewer than two.

    Args:
      trained: the nets of a run.
      test: the test samples.

    Returns:
      `ensemble_accuracy`, `ensemble_loss` and `ensemble_calibration_error` of the averaged
      probabilities, and `test_calibration_error`, the mean of the seeds' own, all in result.json.

    Source: Lakshminarayanan et al., Deep Ensembles, https://arxiv.org/abs/1612.01474
    """
    kept = trained.kept
    if len(kept) < 2 or set(trained.test_accuracy or ()) == {None}:
        return {}
    own = [trained.predict(test.image, members=[i]) for i in kept]
    together = np.mean(own, axis=0)
    right = together[np.arange(len(test.label)), test.label]
    return {
        "ensemble_accuracy": float((together.argmax(axis=-1) == test.label).mean()),
        "ensemble_loss": float(-np.log(np.maximum(right, np.finfo(np.float32).tiny)).mean()),
        "ensemble_calibration_error": calibration_error(together, test.label),
        "test_calibration_error": float(np.mean([calibration_error(x, test.label) for x in own])),
    }
