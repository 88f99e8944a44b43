"""How long a training goes on, and where it pauses."""

from dataclasses import dataclass

from jaxconv._checks import check_positive


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

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "chunks"):
            check_positive(name, getattr(self, name))
        if self.save_every is not None:
            check_positive("save_every", self.save_every)

    def chunk_ends(self, epoch: int, start: int, steps: int) -> list[int]:
        """The steps of an epoch, counted from 0, after which its chunks end, from `start` on."""
        ends = {*range(0, steps, -(-steps // self.chunks)), steps}
        if self.save_every is not None:
            ends |= {*range(-epoch * steps % self.save_every, steps, self.save_every)}
        return sorted(end for end in ends if end > start)
