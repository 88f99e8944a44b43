"""Pictures from arrays, by matplotlib (its object interface: no global state, no display)."""

import io
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLORS = {"train": "#0b6e99", "validation": "#d9730d", "test": "#0f7b6c", "peer": "#a5a29a"}


def plot_history(
    history: Sequence[Mapping[str, float]],
    test: Mapping[str, float],
    path: Path | io.BytesIO,
    *,
    title: str,
) -> None:
    """Draws loss and accuracy over the epochs, training and validation, and the final test's.

    Args:
      history: the rows that `fit` returns.
      test: the final `loss` and `accuracy`.
      path: the PNG to write, or a file in memory.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for label, key in curves_of(name, history[-1]).items():
            values = [row[key] for row in history]
            axes.plot(epochs, values, "o-", ms=4, color=COLORS[label], label=label)
        value = f"test {test[name]:.4f}"
        axes.axhline(test[name], ls="--", lw=1, color=COLORS["test"], label=value)
        finish_curves(axes, name)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def curves_of(name: str, row: Mapping[str, float]) -> dict[str, str]:
    """The key of each curve of a metric that a history's row has, by its label.

    Example:
      >>> curves_of("loss", {"epoch": 1, "loss": 0.5, "val_loss": 0.4})
      {'train': 'loss', 'validation': 'val_loss'}
    """
    keys = {"train": name, "validation": f"val_{name}"}
    return {label: key for label, key in keys.items() if key in row}


def finish_curves(axes: Any, name: str) -> None:
    """Labels, ticks and frame of a metric over the epochs."""
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel="epoch", ylabel=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def plot_parity(
    results: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], path: Path, *, title: str
) -> None:
    """Draws the losses of two implementations over each other, and how far they lie apart.

    Args:
      results: by net, the two histories by the name of their side; a history has `loss` and
        `val_loss` by epoch. The side named `jaxconv` is drawn on top.
      path: the PNG to write.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(3.2 * len(results) + 0.8, 5), layout="constrained")
    columns = figure.subplots(2, len(results), squeeze=False, sharex="col", height_ratios=(3, 2)).T
    for (net, result), (upper, lower) in zip(results.items(), columns, strict=True):
        for label, key in (("train", "loss"), ("validation", "val_loss")):
            theirs, ours = result["keras"][key], result["jaxconv"][key]
            epochs = range(1, len(ours) + 1)
            color = COLORS[label]
            upper.plot(epochs, theirs, lw=6, alpha=0.3, color=color, label=f"Keras, {label}")
            upper.plot(epochs, ours, "o-", lw=1, ms=3, color=color, label=f"jaxconv, {label}")
            apart = [max(abs(a - b), 1e-17) for a, b in zip(theirs, ours, strict=True)]
            lower.plot(epochs, apart, "o-", ms=3, color=color)
        upper.set(title=net, ylim=(0, None))
        lower.set(xlabel="epoch", yscale="log", ylim=(1e-17, 1))
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
    columns[0][0].set_ylabel("loss")
    columns[0][1].set_ylabel("|Keras − jaxconv|\n(equal: on the axis)")
    columns[-1][0].legend(frameon=False)
    figure.suptitle(textwrap.fill(title, 40 * len(results)))
    figure.savefig(path, dpi=120)


def plot_peers(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draws what each library takes for the same work, as bars, with the range over the rounds.

    Args:
      rows: each with `net`, `kind` (`"warm"`, `"evaluation"` or `"job"`), `peer` and `samples`, the
        seconds of each round, or None where it failed. A peer that always failed has no bar.
      path: the PNG to write.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.figure import Figure

    kinds = {
        "warm": "seconds an epoch, warm",
        "evaluation": "seconds for 10,000 test images, warm",
        "job": "seconds from process start to test accuracy",
    }
    kinds = {kind: label for kind, label in kinds.items() if any(r["kind"] == kind for r in rows)}
    nets = list(dict.fromkeys(row["net"] for row in rows))
    figure = Figure(figsize=(3.4 * len(nets) + 1.2, 2.9 * len(kinds) + 0.4), layout="constrained")
    grid = figure.subplots(len(kinds), len(nets), squeeze=False, sharey="row")
    for kind, line in zip(kinds, grid, strict=True):
        peers = list(dict.fromkeys(row["peer"] for row in rows if row["kind"] == kind))
        for net, axes in zip(nets, line, strict=True):
            for row in rows:
                samples = [sample for sample in row["samples"] if sample is not None]
                if (row["net"], row["kind"]) == (net, kind) and samples:
                    color = "train" if row["peer"].startswith("jaxconv") else "peer"
                    _bar(axes, peers.index(row["peer"]), samples, color)
            axes.set(title=net, xlabel=kinds[kind], yticks=range(len(peers)), yticklabels=peers)
            axes.set_xlim(0, axes.get_xlim()[1] * 1.12)
            axes.spines[["top", "right"]].set_visible(False)
        line[0].invert_yaxis()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def plot_steps(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draws figures of train steps: bars, or lines over the batch size where there are several.

    Args:
      rows: each with `case`, `series` (the case without its batch size), `batch_size`, and
        `figures`: values by name, one a round. The median is drawn; None is left out.
      path: the PNG to write.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.figure import Figure

    names = list(rows[0]["figures"])
    swept = len({row["series"] for row in rows}) < len(rows)
    height = 3.6 if swept else 1.6 + 0.35 * len(rows)
    figure = Figure(figsize=(3.2 * len(names) + 1, height), layout="constrained")
    for name, axes in zip(names, figure.subplots(1, len(names), sharey=not swept), strict=True):
        (_sweep if swept else _bars)(axes, rows, name)
        axes.spines[["top", "right"]].set_visible(False)
    if swept:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center")
    else:
        figure.axes[0].invert_yaxis()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _sweep(axes: Any, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """The medians of one figure over the batch size, a line for each series."""
    from matplotlib.ticker import StrMethodFormatter

    for series in dict.fromkeys(row["series"] for row in rows):
        points = sorted(
            (row["batch_size"], statistics.median(row["figures"][name]))
            for row in rows
            if row["series"] == series and None not in row["figures"][name]
        )
        sizes, medians = ([point[i] for point in points] for i in (0, 1))
        axes.plot(sizes, medians, "o-", ms=4, label=series)
    sizes = sorted({row["batch_size"] for row in rows})
    axes.set(xlabel="batch size", ylabel=name, xscale="log", xticks=sizes)
    axes.set_xticklabels(sizes)
    axes.minorticks_off()
    values = [x for row in rows for x in row["figures"][name] if x is not None]
    if max(values, default=1) > 50 * min(values, default=1):
        axes.set(yscale="log")
    else:
        axes.set(ylim=(0, None))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.grid(alpha=0.25)


def _bars(axes: Any, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """One figure of every case."""
    for place, row in enumerate(rows):
        if None not in row["figures"][name]:
            _bar(axes, place, row["figures"][name], "train")
    axes.set(xlabel=name, yticks=range(len(rows)))
    axes.set_yticklabels([row["case"] for row in rows])
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.15)


def _bar(axes: Any, place: int, samples: Sequence[float], color: str) -> None:
    """The median as a bar with its value behind it, and the range as a whisker."""
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
