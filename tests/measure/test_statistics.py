import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from scipy import stats

from jaxconv.measure.statistics import (
    calibration_error,
    paired_t_test,
    relative_reduction,
    summarize,
)

values = st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=20)


@hypothesis.given(values)
def test_the_summary_equals_scipys(sample):
    summary = summarize(sample)
    assert (summary.n, summary.min, summary.max) == (len(sample), min(sample), max(sample))
    if len(set(sample)) == 1:
        assert (summary.std, summary.low, summary.high) == (0, summary.mean, summary.mean)
        return
    expected = stats.t.interval(
        0.95, len(sample) - 1, loc=stats.tmean(sample), scale=stats.sem(sample)
    )
    assert (summary.low, summary.high) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert summary.std == pytest.approx(stats.tstd(sample), rel=1e-9)


eighths = st.integers(-800, 800).map(lambda n: n / 8)


@hypothesis.given(st.lists(st.tuples(eighths, eighths), min_size=2, max_size=20))
def test_the_paired_t_test_equals_scipys(pairs):
    first, second = map(list, zip(*pairs, strict=True))
    hypothesis.assume(len({b - a for a, b in pairs}) > 1)
    found = paired_t_test(first, second)
    expected = stats.ttest_rel(second, first)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert (found.difference.low, found.difference.high) == pytest.approx(interval, rel=1e-6)


def test_one_value_has_no_deviation_and_no_p_value():
    assert summarize([0.5]) == (1, 0.5, None, 0.5, 0.5, None, None)
    assert str(summarize([0.5])) == "0.5000"
    assert paired_t_test([0.5], [0.75]).p is None
    assert paired_t_test([0.5, 0.25], [0.75, 0.5]).p is None  # the differences do not vary
    assert paired_t_test([0.9917, 0.9924], [0.9918, 0.9925]).p is None  # but for rounding


@pytest.mark.parametrize("sample", [[], [1.0, math.nan], [math.inf]])
def test_samples_without_values_or_not_finite_are_refused(sample):
    with pytest.raises(ValueError, match="needs finite values, at least one, not"):
        summarize(sample)


def test_pairs_need_as_many_values_on_both_sides():
    with pytest.raises(ValueError, match="2, 1"):
        paired_t_test([1.0, 2.0], [1.0])


def test_the_reduction_compares_the_means():
    found = relative_reduction([0.10, 0.01], [0.05, 0.02])
    assert found.share == pytest.approx(1 - 0.07 / 0.11)
    assert relative_reduction([0.5], [0.25]) == (0.5, None, None)
    half = relative_reduction([0.5, 0.25, 1.0], [0.25, 0.125, 0.5])
    assert half == pytest.approx((0.5, 0.5, 0.5))
    assert relative_reduction([0.0, 0.5, 0.25], [0.0, 0.25, 0.125]).low < 0.5  # all 0, resampled
    assert relative_reduction([0.0, 0.5], [0.5, 0.5]) is None  # 0 without the second
    assert relative_reduction([0.0], [0.5]) is None
    assert relative_reduction([], []) is None
    with pytest.raises(ValueError, match="zip"):
        relative_reduction([0.5], [])
    assert relative_reduction([0.3, 0.2, 0.1], [0.1] * 3) == relative_reduction(
        [0.3, 0.2, 0.1], [0.1] * 3
    )


@pytest.mark.parametrize(("pairs", "trials"), [(5, 400), (10, 400)])
def test_the_intervals_cover_a_known_share_95_times_in_100(pairs, trials):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(trials):
        first = rng.normal(0.02, 0.002, pairs)
        second = 0.5 * first + rng.normal(0, 0.001, pairs)
        found = relative_reduction(first.tolist(), second.tolist())
        covered += found.low <= 0.5 <= found.high
    assert 0.91 < covered / trials < 0.98


def test_the_calibration_error_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 4)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    probabilities[0] = [0, 0, 1, 0]  # the last bin has its upper edge
    label = rng.integers(0, 4, 500)
    expected, confidence = 0.0, probabilities.max(-1)
    for i in range(10):
        inside = (confidence >= i / 10) & ((confidence < (i + 1) / 10) | (i == 9))
        if inside.any():
            right = (probabilities.argmax(-1) == label)[inside].mean()
            expected += inside.mean() * abs(right - confidence[inside].mean())
    assert calibration_error(probabilities, label, bins=10) == pytest.approx(expected, rel=1e-12)
