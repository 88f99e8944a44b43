"""An epoch of a stream: the same step, compiled, batch by batch as they are read."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxconv.data.arrays import Batch
from jaxconv.data.stream import Stream
from jaxconv.training.state import TrainState
from jaxconv.training.step import TrainStep


class StreamedEpoch:
    """`train_epoch` for a `Stream`: the same step, compiled, batch by batch as they are read.

    The reading goes on from one call to the next as long as the steps follow each other.

    Args:
      train_step: `(state, batch) -> (state, sums)`.
      batch_size: samples a step.
    """

    def __init__(self, train_step: TrainStep, batch_size: int) -> None:
        self._step, self._batch_size = jax.jit(train_step, donate_argnums=0), batch_size
        # Programs that wait for each other on few cores need to be alone on them.
        self._in_flight = 0 if jax.default_backend() == "cpu" else 2
        self._sums: dict[str, Array] = {}
        self._order, self._next, self._batches = None, 0, None

    def __call__(
        self,
        state: TrainState,
        data: Stream,
        order: Int[Array, " samples"] | Int[np.ndarray, " samples"],
        start: int,
        stop: int,
    ) -> tuple[TrainState, dict[str, np.ndarray]]:
        """Steps `start` to `stop`; what `train_epoch` returns."""
        steps, taken = -(-len(order) // self._batch_size), []
        if not self._sums:
            for step in sorted({0, steps - 1}):  # both shapes, compiled by steps on a copy
                batch = data.batch(np.asarray(order), self._batch_size, step)
                copy = jax.tree.map(jnp.copy, state)
                _, self._sums = jax.block_until_ready(self._step(copy, batch))
        rows = {name: np.zeros((steps, *x.shape), x.dtype) for name, x in self._sums.items()}
        if start == stop:
            return state, rows
        if self._batches is None or order is not self._order or start != self._next:
            self.close()
            self._order = order
            self._batches = data.batches(np.asarray(order), self._batch_size, start)
        for batch in _first(self._batches, stop - start):
            state, sums = self._step(state, batch)
            taken.append(sums)
            jax.block_until_ready(taken[: len(taken) - self._in_flight][-1:])
        self._next = stop
        for step, sums in enumerate(jax.device_get(taken), start):
            for name, x in sums.items():
                rows[name][step] = x
        return state, rows

    def close(self) -> None:
        """Ends the reading."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None


def _first(batches: Iterator[Batch], number: int) -> Iterator[Batch]:
    """So many batches, no more taken: what comes after them is for the next call."""
    for _ in range(number):
        yield next(batches)
