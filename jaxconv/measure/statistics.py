"""Statistics over seeds: mean, deviation, confidence interval; two settings compared in pairs."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

CONFIDENCE = 0.95


class Summary(NamedTuple):
    """A sample's statistics: `std` with n - 1, the mean's 95% interval; None for one value."""

    n: int
    mean: float
    std: float | None
    min: float
    max: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.std is None else f" ± {self.std:.4f}")


class PairedTTest(NamedTuple):
    """Differences, second minus first, and their p: None for one pair or equal differences."""

    difference: Summary
    p: float | None


class RelativeReduction(NamedTuple):
    """The share by which a mean is smaller, and its 95% interval: None for one pair."""

    share: float
    low: float | None
    high: float | None


def summarize(
    values: Sequence[float], *, within: tuple[float, float] = (-math.inf, math.inf)
) -> Summary:
    """Statistics of at least one value, with an interval by Student's t.

    Args:
      values: the sample.
      within: the smallest and the largest possible mean, which bound the interval; (0, 1) for an
        accuracy.

    Raises:
      ValueError: if there is no value, or one is not finite.

    Example:
      >>> print(summarize([0.990, 0.992, 0.991]))
      0.9910 ± 0.0010
    """
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"A summary needs finite values, at least one, not {list(values)}.")
    n, mean = len(values), statistics.fmean(values)
    std = statistics.stdev(values) if n > 1 else None
    low, high = None, None
    if std is not None:
        low, high = np.clip(_interval(mean, std / math.sqrt(n), n), *within).tolist()
    return Summary(n, mean, std, min(values), max(values), low, high)


def calibration_error(
    probabilities: Float[np.ndarray, "samples classes"],
    label: Int[np.ndarray, " samples"],
    *,
    bins: int = 15,
) -> float:
    """The expected calibration error: by how much confidence and accuracy differ.

    The predictions are sorted by their confidence, the largest probability, into bins of equal
    width; the error is the mean difference of a bin's confidence and accuracy, by its samples.

    Args:
      probabilities: of each class.
      label: the classes.
      bins: the number of bins in [0, 1].

    Example:
      >>> calibration_error(np.array([[0.75, 0.25], [0.75, 0.25]]), np.array([0, 1]))
      0.25

    Source: Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599
    """
    confidence = probabilities.max(axis=-1).astype(np.float64)
    right = probabilities.argmax(axis=-1) == label
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(label))


def paired_t_test(first: Sequence[float], second: Sequence[float]) -> PairedTTest:
    """Compares two settings, seed by seed in the same order, so that the seeds' effect cancels.

    Raises:
      ValueError: if they differ in length, are empty, or a value is not finite.

    Example:
      >>> result = paired_t_test([0.970, 0.974, 0.972], [0.975, 0.978, 0.978])
      >>> f"{result.difference.mean:+.4f}, p = {result.p:.3f}"
      '+0.0050, p = 0.013'
    """
    if len(first) != len(second):
        raise ValueError(f"Pairs need as many values on both sides: {len(first)}, {len(second)}.")
    difference = summarize([b - a for a, b in zip(first, second, strict=True)])
    rounding = 1e-12 * max(map(abs, [*first, *second]))
    if difference.std is None or difference.std <= rounding:
        return PairedTTest(difference, None)
    from scipy.stats import ttest_rel

    return PairedTTest(difference, float(ttest_rel(second, first).pvalue))


def relative_reduction(first: Sequence[float], second: Sequence[float]) -> RelativeReduction | None:
    """`1 - mean(second) / mean(first)`, seed by seed in the same order, of values that are >= 0.

    The interval is Student's t with the bootstrap's standard error. The bootstrap's percentiles
    would be too narrow: those of ten pairs cover a known share 88 times in 100.

    Returns:
      None if the first has nothing to reduce: it is all 0, perhaps but for one of its seeds.

    Raises:
      ValueError: if they differ in length.

    Example:
      >>> print(f"{relative_reduction([0.10, 0.01], [0.05, 0.02]).share:.3f}")
      0.364
    """
    pairs = np.array(list(zip(first, second, strict=True)), float).reshape(-1, 2).T
    n = pairs.shape[1]
    if np.count_nonzero(pairs[0]) < min(max(n, 1), 2):
        return None

    def share(a: Any, b: Any, axis: int = -1) -> Any:
        a, b = a.mean(axis), b.mean(axis)  # a resample may be all 0: it saves nothing
        return 1 - np.divide(b, a, out=np.ones_like(b), where=a > 0)

    saved = float(share(pairs[0], pairs[1]))
    if n == 1:
        return RelativeReduction(saved, None, None)
    from scipy.stats import bootstrap

    resampled = bootstrap(pairs, share, paired=True, method="percentile", rng=0)
    error = float(resampled.standard_error) * math.sqrt(n / (n - 1))
    return RelativeReduction(saved, *_interval(saved, error, n))


def _interval(mean: float, standard_error: float, n: int) -> tuple[float, float]:
    from scipy.stats import t

    margin = float(t.interval(CONFIDENCE, n - 1)[1]) * standard_error
    return mean - margin, mean + margin
