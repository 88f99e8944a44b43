"""The progress of a training: Keras' epoch line, and a live bar if stdout is a terminal."""

import contextlib
import sys
from collections.abc import Iterator, Mapping


def epoch_line(row: Mapping[str, float], step: int, steps: int) -> str:
    """Formats Keras' line (`verbose=2`) after so many of an epoch's steps: time, and means so far.

    Example:
      >>> epoch_line({"seconds": 3.2, "loss": 0.0486, "accuracy": 0.9853}, 938, 938)
      '938/938 - 3s - 3ms/step - accuracy: 0.9853 - loss: 0.0486'
    """
    per_step = row["seconds"] / step
    pace = f"{per_step:.0f}s" if per_step >= 10 else f"{per_step * 1e3:.0f}ms"
    if per_step < 1e-3:
        pace = f"{per_step * 1e6:.0f}us"
    return " - ".join([f"{step}/{steps}", f"{row['seconds']:.0f}s", f"{pace}/step", *_means(row)])


def _means(row: Mapping[str, float]) -> list[str]:
    other = ("epoch", "step", "steps", "seconds")
    names = [name for name in row if name not in other and "test_" not in name]
    names.sort(key=lambda name: ("val_" in name, name))
    return [f"{name}: {row[name]:{'.4f' if abs(row[name]) > 1e-3 else '.4e'}}" for name in names]


@contextlib.contextmanager
def spinner(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Shows beside a spinner what a block does, if stdout is a terminal.

    Example:
      >>> with spinner("Loading"):
      ...     pass
    """
    if quiet or not _on_terminal():
        yield
        return
    from rich.console import Console

    with Console().status(text):
        yield


def _on_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


class Progress:
    """Shows the progress of a `fit`. Use it in a `with` block, with `on_chunk` and `on_epoch`.

    On a terminal a bar pulses while JAX compiles, and while it evaluates.

    Args:
      epochs: the number of epochs.
      quiet: whether to show nothing.
    """

    def __init__(self, epochs: int, *, quiet: bool = False) -> None:
        self._epochs, self._quiet = epochs, quiet
        self._steps, self._bar = 0, None
        if not quiet and _on_terminal():
            from rich import progress
            from rich.table import Column

            # In a narrow terminal the means lose their end before the bar loses its length.
            rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(bar_width=10, table_column=Column(width=10)),
                progress.TextColumn("{task.fields[line]}", table_column=rest),
                expand=True,
                refresh_per_second=5,
                transient=True,
            )
            self._bar.add_task("Compiling", total=None, line="")

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def on_chunk(self, row: Mapping[str, float]) -> None:
        """Moves the bar to the epoch's current step."""
        self._steps = int(row["steps"])
        if self._bar:
            epoch, step = f"Epoch {int(row['epoch'])}/{self._epochs}", int(row["step"])
            line = " - ".join([f"{step}/{self._steps}", *_means(row)])  # short enough not to wrap
            if step == self._steps:
                self._show("Evaluating", line)
            else:
                self._show(epoch, line, step, self._steps)

    def _show(self, text: str, line: str, done: int = 0, total: int | None = None) -> None:
        """Sets the bar, which pulses without a total."""
        if self._bar:
            task = self._bar.tasks[0]
            self._bar.update(task.id, description=text, completed=done, line=line)
            task.total = total

    def on_epoch(self, row: Mapping[str, float], prefix: str = "") -> None:
        """Replaces the bar by the epoch's line, after `prefix`."""
        if self._quiet:
            return
        epoch = f"{prefix}Epoch {int(row['epoch'])}/{self._epochs}"
        line = f"{epoch} - {epoch_line(row, self._steps, self._steps)}"
        if self._bar:
            self._show("", "")
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)
