"""Where a training stands: what it saves beside its state, and from where it goes on."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxconv.training.metrics import Row
from jaxconv.training.state import TrainState


class ResumePoint(NamedTuple):
    """All that a training needs to continue, apart from its `TrainState`."""

    step: int
    """The steps taken so far, summed over all replicas."""
    members: range
    """The replicas in the state; `range(1)` if there is one."""
    histories: Sequence[Sequence[Row]]
    """For each replica, the rows of its finished epochs."""
    sums: Mapping[str, np.ndarray] = {}
    """The sums of the steps taken in the current epoch; empty between two epochs."""
    seconds: float = 0.0
    """The time that these steps took."""
    stopped: bool = False
    """Whether a callback has ended the training."""


Save = Callable[[TrainState, ResumePoint], None]
"""Keeps a state and its resume point, such as `runs.Checkpoints`."""


def histories_of(points: Sequence[ResumePoint], replicas: int) -> list[list[Row]]:
    """The rows so far of each replica; a group's own resume point is the one that counts.

    Example:
      >>> points = [ResumePoint(9, range(i, i + 1), [[{"epoch": i + 1}], []]) for i in range(2)]
      >>> histories_of(points, 3)
      [[{'epoch': 1}], [], []]
    """
    histories: list[Sequence[Row]] = [[] for _ in range(replicas)]
    for point in sorted(points, key=lambda point: point.members.start, reverse=True):
        for i in range(len(point.histories)):
            if i in point.members or not histories[i]:
                histories[i] = point.histories[i]
    return [[dict(row) for row in rows] for rows in histories]


def find_place(
    states: TrainState, replicas: int, steps: int, resume: ResumePoint | None
) -> tuple[int, int, dict[str, np.ndarray], float]:
    """The epoch and step from which to go on, and the sums and seconds of that epoch so far."""
    epoch, start = divmod(int(np.max(jax.device_get(states.step))), steps)
    if resume is None or not resume.sums:  # if another loop took steps, the next whole epoch
        return epoch + (start > 0), 0, {}, 0.0
    if (found := resume.sums["count"].shape) != (replicas, steps):
        raise ValueError(
            f"The resume point is in an epoch of {found[-1]} steps of {found[0]} replicas, this "
            f"one has {steps} of {replicas}: resume with the same data, batch size and replicas."
        )
    return epoch, start, dict(resume.sums), resume.seconds
