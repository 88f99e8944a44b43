"""Pictures of a run, by matplotlib (its object interface: no global state, no display)."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from jaxconv.measure.statistics import Summary, summarize

COLORS = {"train": "#0b6e99", "validation": "#d9730d", "test": "#0f7b6c", "peer": "#a5a29a"}
"""The color of each kind of curve or bar, in all pictures."""


def plot_run(
    histories: Sequence[Sequence[Mapping[str, float]]],
    tests: Sequence[Mapping[str, float]],
    lost: Sequence[bool],
    path: Path | io.BytesIO,
    *,
    title: str,
) -> None:
    """Draws the curves of a run, by `plot_seeds` or, if it trained one seed, by `plot_history`.

    Args:
      histories: the rows of each seed, as `fit` returns them.
      tests: the final `loss` and `accuracy` of each seed.
      lost: whether each seed diverged.
      path: the PNG to write, or a file in memory.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    if len(histories) > 1:
        plot_seeds(histories, tests, lost, path, title=title)
    else:
        plot_history(histories[0], tests[0], path, title=title)


def plot_history(
    history: Sequence[Mapping[str, float]],
    test: Mapping[str, float],
    path: Path | io.BytesIO,
    *,
    title: str,
) -> None:
    """Draws the loss and accuracy of one seed over the epochs, and those of the final test.

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


def plot_seeds(
    histories: Sequence[Sequence[Mapping[str, float]]],
    tests: Sequence[Mapping[str, float]],
    lost: Sequence[bool],
    path: Path | io.BytesIO,
    *,
    title: str,
) -> None:
    """Draws the loss and accuracy of each seed over the epochs, their means, and the final test.

    Args:
      histories: the rows of each seed, as `fit` returns them.
      tests: the final `loss` and `accuracy` of each seed.
      lost: whether each seed diverged. No mean contains it, and it does not widen the
        axes' limits.
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
                draw_band(axes, epochs, columns, label)
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


def curves_of(name: str, row: Mapping[str, float]) -> dict[str, str]:
    """The keys of a metric in a row of the history, by the label of their curve.

    Example:
      >>> curves_of("loss", {"epoch": 1, "loss": 0.5, "val_loss": 0.4})
      {'train': 'loss', 'validation': 'val_loss'}
    """
    keys = {"train": name, "validation": f"val_{name}"}
    return {label: key for label, key in keys.items() if key in row}


def finish_curves(axes: Any, name: str) -> None:
    """Adds labels, ticks and a legend to the curves of a metric over the epochs."""
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel="epoch", ylabel=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def draw_band(
    axes: Any, x: Sequence[float], columns: Sequence[Summary], color: str, label: str | None = None
) -> None:
    """Draws means as a line, and a band of one standard deviation on both sides.

    Args:
      axes: matplotlib's axes.
      x: where each mean stands.
      columns: the figures at each `x`.
      color: a name in `COLORS`.
      label: the line's label in the legend, if not the color's name.
    """
    means, reach = [s.mean for s in columns], [s.std or 0.0 for s in columns]
    low, high = ([m + sign * r for m, r in zip(means, reach, strict=True)] for sign in (-1, 1))
    axes.plot(x, means, "o-", ms=3, color=COLORS[color], label=label or color)
    axes.fill_between(x, low, high, lw=0, alpha=0.2, color=COLORS[color])


def tile_images(
    images: Shaped[np.ndarray, "number height width"], columns: int
) -> Float[np.ndarray, "rows columns"]:
    """Images side by side in one array, with NaN between them.

    Args:
      images: the images.
      columns: how many stand in one row.

    Returns:
      The array, one cell of NaN between neighbours.

    Example:
      >>> tile_images(np.ones((3, 2, 2)), columns=2).shape
      (5, 5)
    """
    number, height, width = images.shape
    rows = -(-number // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for i, tile in enumerate(images):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        sheet[top : top + height, left : left + width] = tile
    return sheet
