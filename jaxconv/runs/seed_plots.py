"""Pictures of many seeds, by matplotlib: every one of them, the mean, and a band of ± std."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxconv.measure.statistics import Summary, summarize
from jaxconv.runs.plots import COLORS, curves_of, finish_curves, plot_history


def plot_run(
    histories: Sequence[Sequence[Mapping[str, float]]],
    tests: Sequence[Mapping[str, float]],
    lost: Sequence[bool],
    path: Path | io.BytesIO,
    *,
    title: str,
    several: bool,
) -> None:
    """Draws the curves of a run: those of `plot_seeds`, or of one seed those of `plot_history`."""
    if several:
        plot_seeds(histories, tests, lost, path, title=title)
    else:
        plot_history(histories[0], tests[0], path, title=title)


def plot_seeds(
    histories: Sequence[Sequence[Mapping[str, float]]],
    tests: Sequence[Mapping[str, float]],
    lost: Sequence[bool],
    path: Path | io.BytesIO,
    *,
    title: str,
) -> None:
    """Draws loss and accuracy of each seed over the epochs, and their means with the final test's.

    Args:
      histories: of each seed, the rows that `fit` returns.
      tests: of each seed, the final `loss` and `accuracy`.
      lost: whether each diverged: its curves are drawn as far as the others reach, and in no mean.
      path: the PNG to write, or a file in memory.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = [row["epoch"] for row in histories[0]]
    whole = [i for i, away in enumerate(lost) if not away]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for label, key in curves_of(name, histories[0][-1]).items():
            curves = [[row[key] for row in history] for history in histories]
            for i in whole:
                axes.plot(epochs, curves[i], lw=0.6, alpha=0.4, color=COLORS[label])
            if whole:
                columns = [
                    summarize(column) for column in zip(*(curves[i] for i in whole), strict=True)
                ]
                _band(axes, epochs, columns, label)
        if whole:
            test = summarize([tests[i][name] for i in whole])
            axes.axhline(test.mean, ls="--", lw=1, color=COLORS["test"], label=f"test {test}")
            low, high = test.mean - (test.std or 0), test.mean + (test.std or 0)
            axes.axhspan(low, high, lw=0, alpha=0.15, color=COLORS["test"])
        if len(whole) < len(tests):
            limits = axes.get_ylim() if whole else None
            for key in curves_of(name, histories[0][-1]).values():
                for history in (histories[i] for i, away in enumerate(lost) if away):
                    axes.plot(epochs, [row[key] for row in history], ":", lw=0.6, color="#444444")
            axes.set_ylim(limits)
            axes.plot([], [], " ", label=f"{len(tests) - len(whole)} of {len(tests)} diverged")
        finish_curves(axes, name)
    figure.suptitle(title + (", mean ± std" if len(whole) > 1 else ""))
    figure.savefig(path, dpi=120)


def plot_sweep(
    groups: Mapping[float, Sequence[float]], path: Path, *, xlabel: str, ylabel: str, title: str
) -> None:
    """Draws a figure over a hyperparameter: every seed, and the means.

    Args:
      groups: by the hyperparameter's value, the figure of each seed; not finite where it diverged,
        which is marked at the bottom.
      path: the PNG to write.
      xlabel: what the hyperparameter is.
      ylabel: what the figure is.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    kept = {x: [y for y in values if math.isfinite(y)] for x, values in sorted(groups.items())}
    drawn = [x for x, values in kept.items() if values]
    if drawn:
        _band(axes, drawn, [summarize(kept[x]) for x in drawn], "test", "mean ± std")
        points = [(x, y) for x in drawn for y in kept[x]]
        seeds: dict[str, Any] = {"ms": 4, "alpha": 0.5, "color": COLORS["test"]}
        axes.plot(*zip(*points, strict=True), ".", **seeds, label="one seed")
    lost = {x: len(groups[x]) - len(values) for x, values in kept.items()}
    lost = {x: count for x, count in lost.items() if count}
    if lost:
        bottom, color = axes.get_xaxis_transform(), COLORS["validation"]
        heights = [0.03] * len(lost)
        axes.plot(list(lost), heights, "x", color=color, transform=bottom, label="diverged")
        for x, count in lost.items():
            text = f"{count} of {len(groups[x])}"
            axes.annotate(text, (x, 0.06), xycoords=bottom, ha="center", fontsize=8)
    axes.set(xlabel=xlabel, ylabel=ylabel, xscale="log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def plot_pairs(
    sides: Mapping[str, Sequence[float]], path: Path, *, ylabel: str, title: str
) -> None:
    """Draws two settings seed by seed, and their differences with the mean's 95% interval.

    Args:
      sides: the figure of each seed, finite, by the name of the setting; two of them.
      path: the PNG to write.
      ylabel: what the figure is.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    pairs = list(zip(*sides.values(), strict=True))
    for pair in pairs:
        left.plot((0, 1), pair, "o-", ms=4, lw=0.8, alpha=0.6, color=COLORS["train"])
    left.set(xlim=(-0.3, 1.3), xticks=(0, 1), ylabel=ylabel)
    left.set_xticklabels(list(sides))
    differences = [b - a for a, b in pairs]
    mean = summarize(differences)
    right.axhline(0, lw=1, color="#444444")
    right.plot([0] * len(differences), differences, "o", ms=4, alpha=0.6, color=COLORS["train"])
    if mean.low is not None and mean.high is not None:
        reach = [[mean.mean - mean.low], [mean.high - mean.mean]]
        right.errorbar([0.4], [mean.mean], reach, fmt="o", capsize=4, color=COLORS["test"])
    right.set(xlim=(-0.3, 0.7), xticks=(0, 0.4), ylabel=f"difference of {ylabel}")
    right.set_xticklabels(["each seed", "mean,\n95% interval"])
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, axis="y")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _band(
    axes: Any, x: Sequence[float], columns: Sequence[Summary], color: str, label: str | None = None
) -> None:
    """The means as a line, and a band of one standard deviation on both sides."""
    means, reach = [s.mean for s in columns], [s.std or 0.0 for s in columns]
    low, high = ([m + sign * r for m, r in zip(means, reach, strict=True)] for sign in (-1, 1))
    axes.plot(x, means, "o-", ms=3, color=COLORS[color], label=label or color)
    axes.fill_between(x, low, high, lw=0, alpha=0.2, color=COLORS[color])
