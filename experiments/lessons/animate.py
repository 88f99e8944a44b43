"""Sliding windows (notebook 001, 6.2 and 6.3): how does each output come from the numbers below it?

    python experiments/lessons/animate.py
    python experiments/lessons/animate.py --input-size 6 --stride 2 --padding same

The frames of an animation show a window at all its places, with the real numbers in the cells.
Without the options of a window the lesson makes five animations, `valid.gif` to `max_pool.gif`,
otherwise one, `window.gif`. The five show:

- a kernel of 3×3 on the same 5×5 numbers gives 3×3, 5×5 and 2×2 outputs: `valid`, `same` and
  `stride2`, which is every other output of `valid`;
- each output of `channels` is one sum over all channels, so that three channels and two filters
  make two feature maps, not six;
- `max_pool` has no weights, and keeps one of four numbers.
"""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from experiments.lessons import lesson
from experiments.lessons.panels import FRAME_WIDTH, Panels
from experiments.lessons.sliding import Slide, Window, slide
from jaxconv.runs import cli

EXAMPLES = {
    "valid": Window(),
    "same": Window(padding="same"),
    "stride2": Window(stride=2),
    "channels": Window(channels=3, filters=2),
    "max_pool": Window(input_size=4, kernel=2, operation="max"),
}
CUSTOM = "window"  # the name of the animation that the options describe
LAST_FRAME_REPEATS = 4


@dataclasses.dataclass(frozen=True)
class Config(lesson.Config):
    """The settings; each of the first seven replaces the five animations by one of your own."""

    input_size: int | None = None
    """Rows and columns of the input (5)."""
    kernel: int | None = None
    """Rows and columns of the kernel or the pooling window (3)."""
    stride: int | None = None
    """The distance between two windows (1; for pooling, the window's size)."""
    padding: int | str | None = None
    """The padding: valid, same, or zeros on each side (valid)."""
    channels: int | None = None
    """Channels of the input (1)."""
    filters: int | None = None
    """Filters of the convolution (1)."""
    operation: Literal["conv", "max", "avg"] | None = None
    """A convolution, or the maximum or mean of each window (conv)."""
    seed: int = 0
    """The seed of the numbers in the input and the kernels."""
    frame_seconds: float = 0.8
    """How long a frame is shown; the last one is shown four times as long."""


def main(config: Config) -> dict[str, Any]:
    if not 0.02 <= config.frame_seconds <= 60:
        raise ValueError(f"frame_seconds is 0.02 to 60, not {config.frame_seconds}.")
    options = {field.name: getattr(config, field.name) for field in dataclasses.fields(Window)}
    given = {name: value for name, value in options.items() if value is not None}
    windows = {CUSTOM: Window(**given)} if given else EXAMPLES
    all_panels = {name: Panels(slide(window, config.seed)) for name, window in windows.items()}
    result = {}
    with lesson.lesson_folder("animate", config) as folder:
        if config.overwrite:
            for name in (CUSTOM, *EXAMPLES):
                (folder / f"{name}.gif").unlink(missing_ok=True)
        for name, panels in all_panels.items():
            result[name] = as_result(panels.slide)
            print(f"{name}: {panels.slide.formula}; output:\n{panels.slide.output.squeeze()}")
            write_gif(panels, folder / f"{name}.gif", config.frame_seconds)
        heights = [0.0] * min(len(all_panels), 2)  # those of the picture's columns
        places = []
        for panels in all_panels.values():
            column = heights.index(min(heights))
            places.append((column * FRAME_WIDTH, heights[column]))
            heights[column] += panels.height

        def draw(figure: Any) -> None:
            figure.set_layout_engine("none")
            for panels, place in zip(all_panels.values(), places, strict=True):
                panels.draw(figure, -1, *place)

        figsize = (FRAME_WIDTH * len(heights), max(heights))
        return lesson.finish(folder, result, draw, figsize=figsize)


def as_result(content: Slide) -> dict[str, Any]:
    """The entry of `result.json`: settings, arrays as lists, and the output's size."""
    settings = dataclasses.asdict(content.window)
    settings["kernel_size"] = settings.pop("kernel")
    arrays = {"input": content.image, "kernel": content.kernels, "output": content.output}
    return {
        **settings,
        **{name: None if x is None else x.tolist() for name, x in arrays.items()},
        "output_size": content.output.shape[-1],
        "output_size_formula": content.formula,
    }


def write_gif(panels: Panels, path: Path, seconds: float) -> None:
    """Writes the animation.

    Args:
      panels: the slide with its layout.
      path: the GIF to write.
      seconds: how long a frame is shown.
    """
    from matplotlib.animation import PillowWriter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(FRAME_WIDTH, panels.height))
    fps: Any = 1 / seconds  # matplotlib's annotation is int
    writer = PillowWriter(fps=fps)
    steps = len(panels.slide.steps)
    with writer.saving(figure, path, dpi=100):
        for at in range(steps):
            figure.clear()
            panels.draw(figure, at)
            writer.grab_frame()
        for _ in range(LAST_FRAME_REPEATS - 1):  # Pillow joins equal frames to a long one
            writer.grab_frame()
    print(f"Wrote {path}, {steps} frames")


if __name__ == "__main__":
    cli(Config, main, __doc__)
