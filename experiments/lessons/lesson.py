"""The settings that all lessons share, and a lesson's folder with its result and its picture.

Each lesson is a script of its own, such as `python experiments/lessons/padding.py`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments import compare
from jaxconv.measure import environment
from jaxconv.runs import files as run_files
from jaxconv.runs import folder as run_folder


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings that all lessons have in common."""

    output_dir: str | None = None
    """The lesson's folder, if not the next free runs/lesson-NAME-N."""
    overwrite: bool = False
    """Replace the lesson that --output-dir already contains."""


@contextlib.contextmanager
def lesson_folder(name: str, config: Config) -> Iterator[Path]:
    """Makes the lesson's folder and writes the settings into it."""
    new_folder = run_folder.new_run_folder(
        f"lesson-{name}", config.output_dir, overwrite=config.overwrite
    )
    with new_folder as folder:
        settings = {"lesson": name, **dataclasses.asdict(config)}
        run_files.write_json(folder / run_folder.CONFIG, settings)
        yield folder


def finish(
    folder: Path,
    result: Mapping[str, Any],
    draw: Callable[[Any], object],
    *,
    figsize: tuple[float, float],
) -> dict[str, Any]:
    """Writes the lesson's picture, and last `result.json`.

    Args:
      folder: the lesson's.
      result: the figures that the lesson found.
      draw: receives a matplotlib figure and draws the lesson on it.
      figsize: width and height of the figure in inches.

    Returns:
      The facts about this machine, and then the result: the content of `result.json`.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # A title stands nearer to its own picture than to the one above.
    layout = ConstrainedLayoutEngine(h_pad=0.1)
    figure, path = Figure(figsize=figsize, layout=layout), folder / run_folder.PICTURE
    with run_files.warn_if_not_written(path):
        draw(figure)
        figure.savefig(path, dpi=120)
    result = {**environment(), **result}
    run_files.write_json(folder / run_folder.RESULT, result)
    print(f"Lesson: {folder}")
    return result


def draw_accuracies(axes: Any, comparison: Mapping[str, Any], names: tuple[str, str]) -> None:
    """Draws the test accuracies of a comparison seed by seed, with the test's p above.

    Args:
      axes: matplotlib's.
      comparison: the result of `experiments/compare.py`.
      names: the labels of its first and its second side.
    """
    if not comparison["pairs"]:
        axes.set_title("every seed diverged", fontsize=9)
        return
    accuracies = (comparison[f"{side}_test_accuracy_by_seed"] for side in ("first", "second"))
    compare.draw_pairs(axes, dict(zip(names, accuracies, strict=True)), ms=3, lw=0.7)
    p = comparison["test_accuracy_p"]
    test = "" if p is None else f"\n(p = {p:.2g})"
    axes.set_title(f"test accuracy of {comparison['pairs']} seeds{test}", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
