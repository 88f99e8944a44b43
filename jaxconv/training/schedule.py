"""How long a training goes on, and where it pauses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxconv._checks import check_positive
from jaxconv.training.metrics import Row


@dataclass(frozen=True)
class Schedule:
    """Arguments of `fit` and `fit_seeds`, checked.

    Raises:
      ValueError: if a number is not positive.

    Example:
      >>> schedule = Schedule(epochs=5, batch_size=64, chunks=3, save_every=6)
      >>> schedule.chunk_ends(epoch=1, start=3, steps=10)
      [4, 8, 10]
    """

    epochs: int
    batch_size: int
    shuffle: bool = True
    chunks: int = 20
    save_every: int | None = None
    check_finite: bool = True
    early_stopping: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "chunks", "save_every", "early_stopping"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))

    def stops(self, history: Sequence[Row]) -> bool:
        """Whether a replica stops early: its `val_loss` has not fallen for so many epochs.

        Example:
          >>> schedule = Schedule(epochs=9, batch_size=64, early_stopping=2)
          >>> rows = [{"val_loss": 0.5}, {"val_loss": 0.6}, {"val_loss": 0.5}]
          >>> schedule.stops(rows[:2]), schedule.stops(rows)
          (False, True)
        """
        if self.early_stopping is None:
            return False
        lowest, since = math.inf, 0
        for row in history:
            since = 0 if row["val_loss"] < lowest else since + 1
            lowest = row["val_loss"] if since == 0 else lowest
        return since >= self.early_stopping

    def chunk_ends(self, epoch: int, start: int, steps: int) -> list[int]:
        """The steps of an epoch, counted from 0, after which its chunks end, from `start` on."""
        ends = {*range(0, steps, -(-steps // self.chunks)), steps}
        if self.save_every is not None:
            ends |= {*range(-epoch * steps % self.save_every, steps, self.save_every)}
        return sorted(end for end in ends if end > start)
