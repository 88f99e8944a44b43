"""Pictures of a run, by matplotlib (its object interface: no global state, no display)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from jaxconv.measure.statistics import summarize

COLORS = {"train": "#0b6e99", "validation": "#d9730d", "test": "#0f7b6c", "peer": "#a5a29a"}
"""The color of each kind of curve or bar, in all pictures."""


def plot_run(
    histories: Sequence[Sequence[Mapping[str, float]]],
    tests: Sequence[Mapping[str, float]],
    lost: Sequence[bool],
    path: Path,
    *,
    title: str,
) -> None:
    """Draws loss and accuracy over the epochs, and those of the final test.

    With several seeds each has a thin curve, and their mean a band of one standard deviation.

    Args:
      histories: the rows of each seed, as `fit` returns them.
      tests: the final `loss` and `accuracy` of each seed.
      lost: whether each seed diverged. No mean contains it, and it does not widen the axes' limits.
      path: the PNG to write.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        draw_metric(axes, name, histories, tests, lost)
    figure.suptitle(title + (", mean ± std" if list(lost).count(False) > 1 else ""))
    figure.savefig(path, dpi=120)


def draw_metric(axes: Any, name: str, histories: Any, tests: Any, lost: Sequence[bool]) -> None:
    """Draws one of the metrics over the epochs on matplotlib's axes; arguments as in `plot_run`."""
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in histories[0]]
    whole = [i for i, away in enumerate(lost) if not away]
    away = [i for i, away in enumerate(lost) if away]
    keys = {"train": name, "validation": f"val_{name}"}
    keys = {label: key for label, key in keys.items() if key in histories[0][-1]}
    for label, key in keys.items() if whole else ():
        curves = [[row[key] for row in histories[i]] for i in whole]
        for curve in curves if len(curves) > 1 else ():
            axes.plot(epochs, curve, lw=0.6, alpha=0.4, color=COLORS[label])
        columns = [summarize(x) for x in zip(*curves, strict=True)]
        low, high = ([s.mean + sign * (s.std or 0) for s in columns] for sign in (-1, 1))
        axes.plot(epochs, [s.mean for s in columns], "o-", ms=3, color=COLORS[label], label=label)
        axes.fill_between(epochs, low, high, lw=0, alpha=0.2, color=COLORS[label])
    if whole:
        test = summarize([tests[i][name] for i in whole])
        axes.axhline(test.mean, ls="--", lw=1, color=COLORS["test"], label=f"test {test}")
        low, high = test.mean - (test.std or 0), test.mean + (test.std or 0)
        axes.axhspan(low, high, lw=0, alpha=0.15, color=COLORS["test"])
    if away:
        limits = axes.get_ylim() if whole else None
        for i in away:
            for key in keys.values():
                values = [row[key] for row in histories[i]]
                axes.plot(epochs, values, ":", lw=0.6, color="#444444")
        axes.set_ylim(limits)
        axes.plot([], [], " ", label=f"{len(away)} of {len(tests)} diverged")
    axes.set(xlabel="epoch", ylabel=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def tile_images(
    images: Shaped[np.ndarray, "number height width"], columns: int, gap: int = 2
) -> Float[np.ndarray, "rows columns"]:
    """Images side by side in one array, with a gap of cells of NaN between neighbours.

    Small images are enlarged by a whole number, to some 56 cells, so that the gap is as thin beside
    them as beside larger ones.

    Example:
      >>> tile_images(np.ones((3, 28, 28)), columns=2).shape
      (114, 114)
      >>> tile_images(np.ones((3, 2, 2)), columns=2).shape
      (114, 114)
    """
    scale = max(1, 56 // max(images.shape[1:]))
    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    number, height, width = images.shape
    rows = -(-number // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for i, tile in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet
