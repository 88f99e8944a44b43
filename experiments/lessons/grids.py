"""Small arrays drawn as grids with the numbers in the cells, and images drawn as tiles."""

from collections.abc import Collection
from typing import Any

import numpy as np
from jaxtyping import Num, Shaped

from jaxconv.runs.plots import tile_images

PAPER, INK, MARKED, PADDING, GROUND = "#ffffff", "#333333", "#f7c97f", "#e8e8e8", "#9cc9dc"


def draw_grid(
    axes: Any,
    array: Num[np.ndarray, "*rows columns"],
    *,
    title: str = "",
    marked: Collection[tuple[int, int]] = (),
    padding: Collection[tuple[int, int]] = (),
    hidden: Collection[tuple[int, int]] = (),
    fontsize: float = 11,
) -> None:
    """Draws a matrix, or a vector as one row, with a number in each cell.

    Args:
      axes: matplotlib's.
      array: the numbers.
      title: the line on top.
      marked: the cells (row, column) to draw on an orange ground.
      padding: the cells to draw on a grey ground, such as the zeros of a padding.
      hidden: the cells whose number is not shown (yet).
      fontsize: in points.
    """
    from matplotlib.patches import Rectangle

    matrix = np.atleast_2d(array)
    height, width = matrix.shape
    for (row, column), value in np.ndenumerate(matrix):
        cell = (row, column)
        ground = MARKED if cell in marked else PADDING if cell in padding else PAPER
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=ground, edgecolor=INK, lw=0.8))
        if cell not in hidden:
            centre = (column + 0.5, row + 0.5)
            style = {"ha": "center", "va": "center", "fontsize": fontsize, "color": INK}
            axes.annotate(f"{value:.4g}", centre, **style)
    axes.set(xlim=(-0.05, width + 0.05), ylim=(height + 0.05, -0.05), aspect="equal")
    axes.set_title(title, fontsize=10)
    axes.axis("off")


def draw_tiles(
    axes: Any,
    images: Shaped[np.ndarray, "number height width"],
    *,
    columns: int,
    title: str = "",
    signed: bool = False,
) -> None:
    """Draws images side by side on one scale of grey.

    Args:
      axes: matplotlib's.
      images: the images; the largest number of all is white, 0 is black.
      columns: how many images stand in a row.
      title: the line on top.
      signed: use a scale from blue over white, which is 0, to red.
    """
    import matplotlib

    sheet = tile_images(images, columns, gap=6 if signed else 2)  # white is a signed colour too
    largest = float(np.nanmax(np.abs(sheet))) or 1.0
    if signed:
        axes.imshow(sheet, "RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
    else:
        gray = matplotlib.colormaps["gray"].with_extremes(bad=GROUND)  # white would hide borders
        axes.imshow(sheet, gray, vmin=0, vmax=largest, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.axis("off")
