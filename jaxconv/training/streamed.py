"""An epoch over a `Stream`: the compiled step takes the batches one by one, as they arrive."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped

from jaxconv.data.arrays import Batch
from jaxconv.data.stream import Stream
from jaxconv.training.state import TrainState
from jaxconv.training.step import TrainStep


class StreamedEpoch:
    """`train_epoch` for a `Stream`.

    The stream keeps reading ahead from one call to the next if their steps follow each other.

    Args:
      train_step: `(state, batch) -> (state, sums)`.
      batch_size: samples per step.
    """

    def __init__(self, train_step: TrainStep, batch_size: int) -> None:
        self._step, self._batch_size = jax.jit(train_step, donate_argnums=0), batch_size
        # On CPU, two programs with collectives in flight can deadlock: run one at a time.
        self._in_flight = 0 if jax.default_backend() == "cpu" else 2
        self._sums: dict[str, Array] = {}
        self._order, self._next_step, self._batches = None, 0, None

    def __call__(
        self,
        state: TrainState,
        data: Stream,
        order: Int[Array, " samples"] | Int[np.ndarray, " samples"],
        start: int,
        stop: int,
    ) -> tuple[TrainState, dict[str, Shaped[np.ndarray, " steps"]]]:
        """Takes steps `start` to `stop`, as `train_epoch` does, and returns the same."""
        steps = -(-len(order) // self._batch_size)
        if not self._sums:
            self._compile(state, data, np.asarray(order), steps)
        epoch_sums = {name: np.zeros((steps, *x.shape), x.dtype) for name, x in self._sums.items()}
        if start == stop:
            return state, epoch_sums
        batches, taken = self._batches_from(data, order, start), []
        for _ in range(start, stop):
            state, sums = self._step(state, next(batches))
            taken.append(sums)
            jax.block_until_ready(taken[: len(taken) - self._in_flight][-1:])
        self._next_step = stop
        for step, sums in enumerate(jax.device_get(taken), start):
            for name, x in sums.items():
                epoch_sums[name][step] = x
        return state, epoch_sums

    def close(self) -> None:
        """Stops reading ahead."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def _compile(self, state: TrainState, data: Stream, order: np.ndarray, steps: int) -> None:
        """Compiles the step for both batch sizes: takes the first and the last step on a copy."""
        for step in sorted({0, steps - 1}):
            batch = data.batch(order, self._batch_size, step)
            copy = jax.tree.map(jnp.copy, state)
            _, self._sums = jax.block_until_ready(self._step(copy, batch))

    def _batches_from(self, data: Stream, order: Array | np.ndarray, start: int) -> Iterator[Batch]:
        if self._batches is None or order is not self._order or start != self._next_step:
            self.close()
            self._order = order
            self._batches = data.batches(np.asarray(order), self._batch_size, start)
        return self._batches
