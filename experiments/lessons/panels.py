"""The frames of a sliding window: its input, kernels and outputs, laid out and drawn.

`python experiments/lessons/animate.py` makes its animations and its picture from these frames.
"""

import textwrap
from typing import Any, NamedTuple

import numpy as np

from experiments.lessons.grids import INK, draw_grid
from experiments.lessons.sliding import Slide, Step, Window

# Inches.
FRAME_WIDTH, TOP, LINE_HEIGHT = 8.0, 1.0, 0.19
PANELS_HEIGHT, MIN_CELL, MAX_CELL = 5.4, 0.2, 0.5  # the panels are higher if cells would be tiny
CHARACTER_WIDTH = 0.08  # as Agg rounds 9 points monospace
# Characters.
MAX_LINE = 88
# Cells.
GAP_BETWEEN_KINDS, GAP_WITHIN_KIND = 1.8, 1.3

OPERATIONS = {"conv": "kernel", "max": "max-pooling", "avg": "average-pooling"}
Place = tuple[float, float]
"""The left upper corner of a panel, in cells: to the right, and down."""


class Sheet(NamedTuple):
    """A part of a figure, addressed in inches from its left and its top."""

    figure: Any
    left: float
    top: float

    def write(self, x: float, y: float, text: str, **style: Any) -> None:
        """Writes a text."""
        width, height = self.figure.get_size_inches()
        style = {"ha": "center", "va": "center", "color": INK, **style}
        self.figure.text((self.left + x) / width, 1 - (self.top + y) / height, text, **style)

    def square(self, x: float, y: float, size: float) -> Any:
        """Makes axes, square ones, from their left upper corner on."""
        width, height = self.figure.get_size_inches()
        x, y = self.left + x, self.top + y
        return self.figure.add_axes(
            (x / width, 1 - (y + size) / height, size / width, size / height)
        )


class Panels:
    """The layout of a slide's panels, and the frames that show its steps.

    From left to right lie the input, the kernels of each filter, and the outputs. Channels, and
    also outputs, lie below each other.

    Attributes:
      slide: the numbers.
      inputs: a place for each channel of the input.
      kernels: for each filter, a place for each channel.
      outputs: a place for each output.
      columns: the width of all panels, in cells.
      rows: their height, in cells.
      cell: the size of a cell in inches.
      height: the height of a frame in inches.

    Raises:
      ValueError: if the panels are too wide to be legible.
    """

    def __init__(self, slide: Slide) -> None:
        self.slide = slide
        padded, out, k = slide.padded.shape[-1], slide.output.shape[-1], slide.window.kernel
        channels, maps = len(slide.padded), len(slide.output)
        filters = 0 if slide.kernels is None else maps
        pitch = padded + GAP_WITHIN_KIND  # from a channel to the next
        output_pitch = out + GAP_WITHIN_KIND if filters else pitch
        self.rows = max(channels * pitch, maps * output_pitch) - GAP_WITHIN_KIND

        def places(x: float, count: int, size: int, pitch: float) -> list[Place]:
            top = (self.rows - (count - 1) * pitch - size) / 2
            return [(x, top + i * pitch) for i in range(count)]

        xs = [padded + GAP_BETWEEN_KINDS + i * (k + GAP_WITHIN_KIND) for i in range(filters)]
        end = xs[-1] + k if xs else padded
        self.columns = end + GAP_BETWEEN_KINDS + out
        self.inputs = places(0, channels, padded, pitch)
        self.kernels = [places(x, channels, k, pitch) for x in xs]
        self.outputs = places(end + GAP_BETWEEN_KINDS, maps, out, output_pitch)
        before_kernels, before_outputs = padded + GAP_BETWEEN_KINDS / 2, end + GAP_BETWEEN_KINDS / 2
        self._signs = {before_kernels: "∗", before_outputs: "="} if xs else {before_outputs: "→"}
        width = FRAME_WIDTH - 0.6
        self.cell = min(MAX_CELL, width / self.columns, max(PANELS_HEIGHT / self.rows, MIN_CELL))
        if self.cell < MIN_CELL:
            raise ValueError(
                f"Panels of {self.columns:.0f} cells beside each other are not legible, at most "
                f"{width / MIN_CELL:.0f}: take a smaller input or kernel, or fewer filters."
            )
        blocks = [self.lines(at) for at in range(len(slide.steps))]
        longest = max(len(line) for block in blocks for line in block)
        self._text_left = (FRAME_WIDTH - longest * CHARACTER_WIDTH) / 2  # the same in all frames
        self._text_top = TOP + self.rows * self.cell + 0.3
        self.height = self._text_top + LINE_HEIGHT * max(map(len, blocks)) + 0.2

    def lines(self, at: int) -> list[str]:
        """A step's arithmetic, in lines that fit the width."""
        indent = " " * 11 if len(self.slide.steps[at].lines) > 1 else ""
        return [
            line
            for text in self.slide.steps[at].lines
            for line in textwrap.wrap(text, MAX_LINE, subsequent_indent=indent)
        ]

    def draw(self, figure: Any, at: int, left: float = 0.0, top: float = 0.0) -> None:
        """Draws the frame of a step.

        Args:
          figure: matplotlib's.
          at: which step, by its index.
          left: inches from the left of the figure to the frame.
          top: inches from the top of the figure to the frame.
        """
        sheet, step = Sheet(figure, left, top), self.slide.steps[at]
        sheet.write(FRAME_WIDTH / 2, 0.25, heading(self.slide.window), fontsize=11, weight="bold")
        sheet.write(FRAME_WIDTH / 2, 0.5, f"output size: {self.slide.formula}", fontsize=10)
        for x, sign in self._signs.items():
            middle = TOP + self.rows * self.cell / 2
            sheet.write(self._margin + x * self.cell, middle, sign, fontsize=15)
        self._draw_inputs(sheet, step)
        self._draw_kernels(sheet, step)
        self._draw_outputs(sheet, step)
        style = {"family": "monospace", "fontsize": 9, "linespacing": 1.5}
        text = "\n".join(self.lines(at))
        sheet.write(self._text_left, self._text_top, text, ha="left", va="top", **style)

    @property
    def _margin(self) -> float:
        """Inches from the left of a frame to the panels."""
        return (FRAME_WIDTH - self.columns * self.cell) / 2

    def _draw_panel(
        self, sheet: Sheet, array: np.ndarray, place: Place, title: str, **cells: Any
    ) -> Any:
        """Draws a matrix at its place, and returns its axes."""
        x, y = self._margin + place[0] * self.cell, TOP + place[1] * self.cell
        axes = sheet.square(x, y, len(array) * self.cell)
        longest = max(len(f"{number:.4g}") for number in array.flat)
        fontsize = min(13, 72 * self.cell / max(2.4, 0.75 * longest))
        draw_grid(axes, array, title=title, fontsize=fontsize, **cells)
        return axes

    def _draw_inputs(self, sheet: Sheet, step: Step) -> None:
        from matplotlib.patches import Rectangle

        slide, k = self.slide, self.slide.window.kernel
        pooling = slide.kernels is None
        for i, place in enumerate(self.inputs):
            under_window = not pooling or i == step.cell[0]
            axes = self._draw_panel(
                sheet,
                slide.padded[i],
                place,
                numbered("input" if len(self.inputs) == 1 else "channel", i, self.inputs),
                marked=set(step.covered) - slide.padding_cells if under_window else (),
                padding=slide.padding_cells,
                hidden=slide.padding_cells if pooling else (),
            )
            if under_window:  # an outline too: padding stays grey in the window
                row, column = step.covered[0]
                axes.add_patch(Rectangle((column, row), k, k, fill=False, edgecolor=INK, lw=2.2))

    def _draw_kernels(self, sheet: Sheet, step: Step) -> None:
        k, arrays = self.slide.window.kernel, np.asarray(self.slide.kernels)
        every = set(np.ndindex(k, k))
        for i, places in enumerate(self.kernels):
            title = numbered("kernel" if len(self.kernels) == 1 else "filter", i, self.kernels)
            for j, place in enumerate(places):
                marked = every if i == step.cell[0] else ()
                self._draw_panel(sheet, arrays[i, j], place, "" if j else title, marked=marked)

    def _draw_outputs(self, sheet: Sheet, step: Step) -> None:
        current, *cell = step.cell
        for i, place in enumerate(self.outputs):
            later = (s.cell for s in self.slide.steps if s.cell > step.cell)
            hidden = {(row, column) for depth, row, column in later if depth == i}
            marked = {tuple(cell)} if i == current else ()
            title = numbered("output", i, self.outputs)
            self._draw_panel(
                sheet, self.slide.output[i], place, title, marked=marked, hidden=hidden
            )


def heading(window: Window) -> str:
    """Describes the input and the window that slides over it, in words."""
    n, k = window.input_size, window.kernel
    channels = f" of {window.channels} channels" if window.channels > 1 else ""
    sliding = f"{k}×{k} {OPERATIONS[window.operation]}"
    if window.filters > 1:
        sliding = f"{window.filters} filters of {k}×{k}"
    return f"{n}×{n} input{channels}, {sliding}, padding {window.padding}, stride {window.stride}"


def numbered(name: str, i: int, panels: list[Any]) -> str:
    """The title of a panel: with its number, if there are several of its kind."""
    return name if len(panels) == 1 else f"{name} {i + 1}"
