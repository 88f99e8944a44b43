"""The steps of some epochs, chunk by chunk, so that progress shows and a run can save."""

import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxconv._checks import check_positive
from jaxconv.training._stacked import epoch_permutations
from jaxconv.training.epoch import Epochs, Orders
from jaxconv.training.state import ResumePoint, TrainState


class Schedule(NamedTuple):
    """How long replicas train, and in which parts: arguments of `fit`."""

    epochs: int
    batch_size: int
    shuffle: bool = True
    chunks: int = 20
    save_every: int | None = None
    check_finite: bool = True

    def checked(self) -> "Schedule":
        """The same, or ValueError for a number that is not positive."""
        for name in ("epochs", "batch_size", "chunks"):
            check_positive(name, getattr(self, name))
        if self.save_every is not None:
            check_positive("save_every", self.save_every)
        return self


class Chunk(NamedTuple):
    """Where a group stands after some steps of an epoch."""

    states: TrainState
    """The next chunk reuses its buffers."""
    epoch: int
    """Counted from 1."""
    step: int
    """The steps of this epoch so far, of all its `steps`."""
    steps: int
    sums: dict[str, np.ndarray]
    """The sums `[replicas, steps]` of the epoch so far, on the host."""
    seconds: float
    """The time that the epoch has taken so far."""


def run_chunks(
    states: TrainState,
    data: Epochs,
    schedule: Schedule,
    *,
    epochs: int,
    resume: ResumePoint | None = None,
) -> Iterator[Chunk]:
    """Takes the steps of some epochs, counted from `states.step`, chunk by chunk.

    Raises:
      ValueError: if the epoch to resume has another number of steps.
    """
    # Zero steps: compiles the program before the clock starts.
    orders = _orders(states.rng, 0, data.samples, schedule.shuffle)
    states, no_sums = data.take_steps(jax.tree.map(jnp.copy, states), orders, 0, 0)
    shape = no_sums["count"].shape
    steps = shape[-1]
    first_epoch, start = divmod(int(np.max(jax.device_get(states.step))), steps)
    sums, seconds = ({}, 0.0) if resume is None else (dict(resume.sums), resume.seconds)
    if sums and sums["count"].shape != shape:
        raise ValueError(
            f"The resume point is in an epoch of {sums['count'].shape[-1]} steps of "
            f"{len(sums['count'])} replicas, this one has {steps} of {shape[0]}: resume with the "
            "same data, batch size and replicas."
        )
    if start and not sums:  # another loop took these steps: start with the next whole epoch
        first_epoch, start = first_epoch + 1, 0
    for epoch in range(first_epoch, first_epoch + epochs):
        orders = _orders(states.rng, epoch, data.samples, schedule.shuffle)
        chunk = -(-steps // schedule.chunks)
        for stop in _chunk_ends(epoch * steps, start, steps, chunk, schedule.save_every):
            began = time.perf_counter()
            states, chunk_sums = data.take_steps(states, orders, start, stop)
            chunk_sums = jax.device_get(dict(chunk_sums))
            seconds += time.perf_counter() - began
            sums = {name: x + sums.get(name, 0) for name, x in chunk_sums.items()}
            yield Chunk(states, epoch + 1, stop, steps, sums, seconds)
            start = stop
        start, sums, seconds = 0, {}, 0.0


def _orders(rngs: Array, epoch: int, samples: int, shuffle: bool) -> Orders:
    if shuffle:
        return epoch_permutations(rngs, epoch, samples=samples)
    # NumPy: JAX puts it wherever the states are.
    return np.tile(np.arange(samples, dtype=np.int32), (len(rngs), 1))


def _chunk_ends(
    before: int, start: int, steps: int, chunk: int, save_every: int | None
) -> list[int]:
    """The steps of an epoch, `before` steps into the run, after which a chunk ends.

    Example:
      >>> _chunk_ends(before=10, start=3, steps=10, chunk=4, save_every=6)
      [4, 8, 10]
    """
    saves = range(-before % save_every, steps, save_every) if save_every else ()
    return sorted(end for end in {*range(0, steps, chunk), *saves, steps} if end > start)
