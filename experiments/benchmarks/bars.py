"""Bars of measurements, for the pictures of the benchmarks."""

import statistics
from collections.abc import Sequence
from typing import Any

from jaxconv.runs.plots import COLORS


def draw_bar(axes: Any, place: int, samples: Sequence[float], color: str) -> None:
    """Draws the median as a horizontal bar with its value, and the range as a whisker.

    Args:
      axes: matplotlib's axes.
      place: where the bar stands on the vertical axis.
      samples: the measurements, at least one.
      color: a name in `COLORS`.
    """
    low, value, high = min(samples), statistics.median(samples), max(samples)
    axes.barh(
        place,
        value,
        xerr=[[value - low], [high - value]],
        color=COLORS[color],
        error_kw={"lw": 1, "capsize": 2, "ecolor": "#444444"},
    )
    text = f" {value:,.3g}" if value < 100 else f" {value:,.0f}"
    axes.annotate(text, (high, place), va="center", fontsize=8)
