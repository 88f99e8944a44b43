"""Small arrays drawn as grids, with the numbers in the cells.

Used by the lessons, such as `python experiments/lessons/pooling.py`.
"""

from collections.abc import Collection
from typing import Any

import numpy as np

from jaxconv.runs.report._html import tiles

PAPER, INK, MARKED, ADDED, GROUND = "#ffffff", "#333333", "#f7c97f", "#e8e8e8", "#9cc9dc"


def draw_grid(
    axes: Any,
    array: np.ndarray,
    *,
    title: str = "",
    marked: Collection[tuple[int, int]] = (),
    added: Collection[tuple[int, int]] = (),
    hidden: Collection[tuple[int, int]] = (),
    fontsize: float = 11,
) -> None:
    """Draws a matrix with its numbers.

    Args:
      axes: matplotlib's.
      array: the matrix, of numbers or, as one line, a vector.
      title: the line on top.
      marked: the cells (row, column) to draw on a coloured ground.
      added: those on a grey one, such as the zeros of a padding.
      hidden: those whose number is not shown (yet).
      fontsize: in points.
    """
    from matplotlib.patches import Rectangle

    matrix = np.atleast_2d(array)
    height, width = matrix.shape
    for (row, column), value in np.ndenumerate(matrix):
        cell = (row, column)
        ground = MARKED if cell in marked else ADDED if cell in added else PAPER
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=ground, edgecolor=INK, lw=0.8))
        if cell not in hidden:
            place = (column + 0.5, row + 0.5)
            style = {"ha": "center", "va": "center", "fontsize": fontsize, "color": INK}
            axes.annotate(f"{value:.4g}", place, **style)
    axes.set(xlim=(-0.05, width + 0.05), ylim=(height + 0.05, -0.05), aspect="equal")
    axes.set_title(title, fontsize=10)
    axes.axis("off")


def draw_tiles(
    axes: Any, images: np.ndarray, *, columns: int, title: str = "", signed: bool = False
) -> None:
    """Draws images `[number, height, width]` side by side, on one scale of grey.

    With `signed` the scale runs from blue over white at 0 to red.
    """
    import matplotlib

    sheet = tiles(images, columns)
    reach = float(np.nanmax(np.abs(sheet))) or 1.0
    if signed:
        axes.imshow(sheet, cmap="RdBu_r", vmin=-reach, vmax=reach)
    else:
        gray = matplotlib.colormaps["gray"].with_extremes(bad=GROUND)  # white would be no border
        axes.imshow(sheet, cmap=gray, vmin=0, vmax=reach)
    axes.set_title(title, fontsize=9)
    axes.axis("off")
