"""What the lessons share: their settings, and a folder with `result.json` and a picture.

Run a lesson itself, such as `python experiments/lessons/padding.py`.
"""

import contextlib
import dataclasses
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxconv.measure.environment import environment
from jaxconv.runs import files as run_files
from jaxconv.runs import folder as run_folder


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings that all lessons have in common."""

    output_dir: str | None = None
    """The lesson's folder, if not the next free runs/lesson-NAME-N."""
    overwrite: bool = False
    """Replace what --output-dir holds."""


@contextlib.contextmanager
def lesson_folder(name: str, config: Config) -> Iterator[Path]:
    """Makes the folder, with the settings in it."""
    options = {"overwrite": config.overwrite}
    with run_folder.new_run_folder(f"lesson-{name}", config.output_dir, **options) as folder:
        whole = {"lesson": name, **dataclasses.asdict(config)}
        run_files.write_json(folder / run_folder.CONFIG, whole)
        yield folder


def finish(
    folder: Path,
    result: Mapping[str, Any],
    draw: Callable[[Any], object],
    *,
    figsize: tuple[float, float],
) -> dict[str, Any]:
    """Writes the picture, drawn on a matplotlib figure, and last the result with the machine."""
    if importlib.util.find_spec("matplotlib"):
        from matplotlib.figure import Figure

        figure, path = Figure(figsize=figsize, layout="constrained"), folder / run_folder.PICTURE
        with run_files.warn_if_not_written(path):
            draw(figure)
            figure.savefig(path, dpi=120)
    else:
        left_out = f"{run_folder.PICTURE} is left out (pip install matplotlib)"
        print(f"matplotlib is missing: {left_out}.")
    result = {**environment(), **result}
    run_files.write_json(folder / run_folder.RESULT, result)
    print(f"Lesson: {folder}")
    return result


def draw_pairs(axes: Any, comparison: Mapping[str, Any], names: Sequence[str]) -> None:
    """Draws the test accuracies of the two sides of `compare.py`'s result, each seed's joined."""
    if not comparison["pairs"]:
        axes.set_title("every seed diverged", fontsize=9)
        return
    sides = [comparison[f"{side}_test_accuracy_by_seed"] for side in ("first", "second")]
    for pair in zip(*sides, strict=True):
        axes.plot((0, 1), pair, "o-", ms=3, lw=0.7, color="#0b6e99", alpha=0.6)
    axes.set(xticks=(0, 1), xlim=(-0.3, 1.3))
    axes.set_xticklabels(names)
    p = comparison["test_accuracy_p"]
    test = "" if p is None else f"\n(p = {p:.2g})"
    axes.set_title(f"test accuracy of {comparison['pairs']} seeds{test}", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
