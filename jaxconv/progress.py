"""What a training run shows: Keras' epoch line, with a live bar where stdout is a terminal."""

import sys
from collections.abc import Mapping
from types import TracebackType


def epoch_line(row: Mapping[str, float], step: int, steps: int) -> str:
    """Keras' line (`verbose=2`): steps, time, and the means so far.

    Example:
      >>> epoch_line({"seconds": 3.2, "loss": 0.0486, "accuracy": 0.9853}, 938, 938)
      '938/938 - 3s - 3ms/step - accuracy: 0.9853 - loss: 0.0486'
    """
    per_step = row["seconds"] / step
    pace = f"{per_step:.0f}s" if per_step >= 10 else f"{per_step * 1e3:.0f}ms"
    if per_step < 1e-3:
        pace = f"{per_step * 1e6:.0f}us"
    means = sorted(
        (key for key in row if key not in ("epoch", "step", "steps", "seconds")),
        key=lambda key: (key.startswith("val_"), key),
    )
    parts = [f"{step}/{steps}", f"{row['seconds']:.0f}s", f"{pace}/step"]
    parts += [f"{key}: {row[key]:{'.4f' if abs(row[key]) > 1e-3 else '.4e'}}" for key in means]
    return " - ".join(parts)


class Progress:
    """Shows a `fit` while it runs: pass `on_chunk` and `on_epoch`, and use it in a `with` block.

    Args:
      epochs: how many epochs there will be.
      quiet: show nothing.
    """

    def __init__(self, epochs: int, *, quiet: bool = False) -> None:
        self._epochs, self._quiet = epochs, quiet
        self._steps, self._bar, self._task = 0, None, None
        if not quiet and sys.stdout.isatty():
            try:
                from rich import progress
            except ModuleNotFoundError:
                print("rich is not installed: the live bar is left out (pip install rich).")
                return
            self._bar = progress.Progress(
                "Epoch {task.fields[epoch]}",
                progress.BarColumn(bar_width=24),
                "{task.fields[line]}",
                refresh_per_second=5,
            )

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def on_chunk(self, row: Mapping[str, float]) -> None:
        """Moves the epoch's bar to where the epoch is."""
        self._steps = int(row["steps"])
        if self._bar:
            epoch, step = int(row["epoch"]), int(row["step"])
            if self._task is None:
                name = f"{epoch}/{self._epochs}"
                self._task = self._bar.add_task("", total=self._steps, epoch=name, line="")
            line = epoch_line(row, step, self._steps)
            self._bar.update(self._task, completed=step, line=line)

    def on_epoch(self, row: Mapping[str, float]) -> None:
        """Finishes the epoch's line."""
        line = epoch_line(row, self._steps, self._steps)
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self._steps, line=line)
            self._task = None
        elif not self._quiet:
            print(f"Epoch {int(row['epoch'])}/{self._epochs} - {line}", flush=True)
