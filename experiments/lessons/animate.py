"""Sliding windows (notebook 001, 6.2 and 6.3): animations with the real numbers in the cells.

    python experiments/lessons/animate.py
    python experiments/lessons/animate.py --input-size 6 --stride 2 --padding same

Without the options of a window it makes five, `valid.gif` to `max_pool.gif`, otherwise one,
`window.gif`. What the five show:

- a kernel of 3×3 on the same 5×5 numbers makes 3×3, 5×5 and 2×2 outputs: `valid`, `same` and
  `stride2`, which is every other output of `valid`;
- every output of `channels` is one sum over all channels, so that three channels and two filters
  make two feature maps, not six;
- `max_pool` has no weights, and of each four numbers it keeps one.
"""

import dataclasses
import importlib.util
import textwrap
from pathlib import Path
from typing import Any, Literal

import numpy as np

from experiments.lessons import lesson
from experiments.lessons.grids import INK, draw_grid
from experiments.lessons.sliding import Slide, Window, slide
from jaxconv.runs.cli import cli

FIVE = {
    "valid": Window(),
    "same": Window(padding="same"),
    "stride2": Window(stride=2),
    "channels": Window(channels=3, filters=2),
    "max_pool": Window(input_size=4, kernel=2, operation="max"),
}
OWN = "window"
KINDS = {"conv": "kernel", "max": "max-pooling", "avg": "average-pooling"}
HELD = 4  # how many frames long the last one lasts
WIDTH, TOP, LINE, USUAL, SMALLEST = 8.0, 1.0, 0.19, 5.4, 0.2  # inches; the last is a cell's
CHARACTER, LONGEST = 0.08, 88  # inches, as Agg rounds 9 points monospace; characters of a line
GAP, BETWEEN = 1.8, 1.3  # cells between two kinds of panels, and between two of a kind


@dataclasses.dataclass(frozen=True)
class Config(lesson.Config):
    """The settings: one of the first seven is enough for an animation of one's own."""

    input_size: int | None = None
    """Rows and columns of the input (5)."""
    kernel: int | None = None
    """Those of the kernel or the pooling window (3)."""
    stride: int | None = None
    """The distance between two windows (1; for pooling, the window's size)."""
    padding: int | str | None = None
    """valid, same, or zeros on each side (valid)."""
    channels: int | None = None
    """Channels of the input (1)."""
    filters: int | None = None
    """Filters of the convolution (1)."""
    operation: Literal["conv", "max", "avg"] | None = None
    """A convolution, or the maximum or mean of each window (conv)."""
    seed: int = 0
    """Of the numbers in the input and the kernels."""
    frame_seconds: float = 0.8
    """How long a frame is seen; the last one four times as long."""


def main(config: Config) -> dict[str, Any]:
    if not 0.02 <= config.frame_seconds <= 60:
        raise ValueError(f"frame_seconds is 0.02 to 60, not {config.frame_seconds}.")
    options = {field.name: getattr(config, field.name) for field in dataclasses.fields(Window)}
    given = {name: value for name, value in options.items() if value is not None}
    windows = {OWN: Window(**given)} if given else FIVE
    pages = {name: Page(slide(window, config.seed)) for name, window in windows.items()}
    result = {}
    with lesson.lesson_folder("animate", config) as folder:
        if config.overwrite:
            for name in (OWN, *FIVE):
                (folder / f"{name}.gif").unlink(missing_ok=True)
        for name, page in pages.items():
            result[name] = as_result(page.slide)
            print(f"{name}: {page.slide.formula}; output:\n{page.slide.output.squeeze()}")
            write_gif(page, folder / f"{name}.gif", config.frame_seconds)
        heights = [0.0] * min(len(pages), 2)  # of the picture's columns
        places = []
        for page in pages.values():
            column = heights.index(min(heights))
            places.append((column * WIDTH, heights[column]))
            heights[column] += page.height

        def draw(figure: Any) -> None:
            figure.set_layout_engine("none")
            for page, place in zip(pages.values(), places, strict=True):
                page.draw(figure, -1, *place)

        size = (WIDTH * len(heights), max(heights))
        return lesson.finish(folder, result, draw, figsize=size)


def as_result(content: Slide) -> dict[str, Any]:
    settings = dataclasses.asdict(content.window)
    settings["kernel_size"] = settings.pop("kernel")
    arrays = {"input": content.image, "kernel": content.kernel, "output": content.output}
    return {
        **settings,
        **{name: None if x is None else x.tolist() for name, x in arrays.items()},
        "output_size": content.output.shape[-1],
        "output_size_formula": content.formula,
    }


def write_gif(page: "Page", path: Path, seconds: float) -> None:
    if not importlib.util.find_spec("matplotlib"):
        print(f"matplotlib is missing: {path.name} is left out (pip install matplotlib).")
        return
    from matplotlib.animation import PillowWriter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, page.height))
    fps: Any = 1 / seconds  # the annotation says int
    writer = PillowWriter(fps=fps)
    steps = len(page.slide.steps)
    with writer.saving(figure, path, dpi=100):
        for at in range(steps):
            figure.clear()
            page.draw(figure, at)
            writer.grab_frame()
        for _ in range(HELD - 1):  # Pillow makes one long frame of equal ones
            writer.grab_frame()
    print(f"Wrote {path}, {steps} frames")


class Page:
    """Where the panels of a slide lie, in cells, and its frames.

    From left to right the input, the kernels of each filter and the outputs; channels, and also
    outputs, are below each other.

    Raises:
      ValueError: if the panels are too wide to be legible.
    """

    def __init__(self, content: Slide) -> None:
        self.slide = content
        padded, out, k = content.padded.shape[-1], content.output.shape[-1], content.window.kernel
        channels, maps = len(content.padded), len(content.output)
        filters = 0 if content.kernel is None else maps
        pitch = padded + BETWEEN  # of channels, and of what belongs to each
        apart = out + BETWEEN if filters else pitch
        self.tall = max(channels * pitch, maps * apart) - BETWEEN

        def column(x: float, count: int, size: int, pitch: float) -> list[tuple[float, float]]:
            first = (self.tall - (count - 1) * pitch - size) / 2
            return [(x, first + i * pitch) for i in range(count)]

        xs = [padded + GAP + i * (k + BETWEEN) for i in range(filters)]
        end = xs[-1] + k if xs else padded
        self.wide = end + GAP + out
        self.inputs = column(0, channels, padded, pitch)
        self.kernels = [column(x, channels, k, pitch) for x in xs]
        self.outputs = column(end + GAP, maps, out, apart)
        self.signs = {padded + GAP / 2: "∗", end + GAP / 2: "="} if xs else {end + GAP / 2: "→"}
        across = WIDTH - 0.6
        self.unit = min(0.5, across / self.wide, max(USUAL / self.tall, SMALLEST))
        if self.unit < SMALLEST:
            raise ValueError(
                f"Panels of {self.wide:.0f} cells beside each other are not legible, at most "
                f"{across / SMALLEST:.0f}: take a smaller input or kernel, or fewer filters."
            )
        blocks = [self.lines(at) for at in range(len(content.steps))]
        self.characters = max(len(line) for block in blocks for line in block)
        self.text_top = TOP + self.tall * self.unit + 0.3
        self.height = self.text_top + LINE * max(map(len, blocks)) + 0.2

    def lines(self, at: int) -> list[str]:
        """A step's arithmetic, in lines that fit the width."""
        indent = " " * 11 if len(self.slide.steps[at].lines) > 1 else ""
        return [
            line
            for text in self.slide.steps[at].lines
            for line in textwrap.wrap(text, LONGEST, subsequent_indent=indent)
        ]

    def draw(self, figure: Any, at: int, left: float = 0.0, top: float = 0.0) -> None:
        """Draws the frame of a step on a figure, inches from its left and its top."""
        from matplotlib.patches import Rectangle

        content, step = self.slide, self.slide.steps[at]
        (current, *cell), k = step.cell, content.window.kernel
        wide, tall = figure.get_size_inches()
        margin = (WIDTH - self.wide * self.unit) / 2

        def write(x: float, y: float, text: str, **style: Any) -> None:
            style = {"ha": "center", "va": "center", "color": INK, **style}
            figure.text((left + x) / wide, 1 - (top + y) / tall, text, **style)

        def panel(array: np.ndarray, place: tuple[float, float], title: str, **style: Any) -> Any:
            size = len(array) * self.unit
            x = left + margin + place[0] * self.unit
            y = top + TOP + place[1] * self.unit
            axes = figure.add_axes((x / wide, 1 - (y + size) / tall, size / wide, size / tall))
            longest = max(len(f"{number:.4g}") for number in array.flat)
            fontsize = min(13, 72 * self.unit / max(2.4, 0.75 * longest))
            draw_grid(axes, array, title=title, fontsize=fontsize, **style)
            return axes

        write(WIDTH / 2, 0.25, heading(content.window), fontsize=11, weight="bold")
        write(WIDTH / 2, 0.5, f"output size: {content.formula}", fontsize=10)
        for x, sign in self.signs.items():
            write(margin + x * self.unit, TOP + self.tall * self.unit / 2, sign, fontsize=15)
        for i, place in enumerate(self.inputs):
            covered = content.kernel is not None or i == current
            axes = panel(
                content.padded[i],
                place,
                numbered("input" if len(self.inputs) == 1 else "channel", i, self.inputs),
                marked=set(step.window) - content.added if covered else (),
                added=content.added,
                hidden=content.added if content.kernel is None else (),
            )
            if covered:  # an outline too: padding stays grey in the window
                row, column = step.window[0]
                axes.add_patch(Rectangle((column, row), k, k, fill=False, edgecolor=INK, lw=2.2))
        every, kernel = set(np.ndindex(k, k)), np.asarray(content.kernel)
        for i, places in enumerate(self.kernels):
            name = numbered("kernel" if len(self.kernels) == 1 else "filter", i, self.kernels)
            for j, place in enumerate(places):
                marked = every if i == current else ()
                panel(kernel[i, j], place, "" if j else name, marked=marked)
        for i, place in enumerate(self.outputs):
            hidden = {s.cell[1:] for s in content.steps if s.cell[0] == i and s.cell > step.cell}
            marked = {tuple(cell)} if i == current else ()
            name = numbered("output", i, self.outputs)
            panel(content.output[i], place, name, marked=marked, hidden=hidden)
        start = (WIDTH - self.characters * CHARACTER) / 2  # that of the longest line of all frames
        style = {"family": "monospace", "fontsize": 9, "linespacing": 1.5}
        write(start, self.text_top, "\n".join(self.lines(at)), ha="left", va="top", **style)


def heading(window: Window) -> str:
    """What slides over what, in words."""
    n, k = window.input_size, window.kernel
    channels = f" of {window.channels} channels" if window.channels > 1 else ""
    sliding = f"{k}×{k} {KINDS[window.operation]}"
    if window.filters > 1:
        sliding = f"{window.filters} filters of {k}×{k}"
    return f"{n}×{n} input{channels}, {sliding}, padding {window.padding}, stride {window.stride}"


def numbered(name: str, i: int, among: list[Any]) -> str:
    return name if len(among) == 1 else f"{name} {i + 1}"


if __name__ == "__main__":
    cli(Config, main, __doc__)
