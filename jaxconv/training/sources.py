"""The data of a training as its driver sees it, in memory or as a `Stream`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from jaxconv.data.arrays import Batch, Split
from jaxconv.data.stream import Stream
from jaxconv.training._batches import on_device, put
from jaxconv.training._stacked import Orders, Strategy, each
from jaxconv.training.epoch import Bound, train_epoch
from jaxconv.training.state import TrainState
from jaxconv.training.step import TrainStep


class Epochs(NamedTuple):
    """Opened data: the number of its samples, and the function that takes its steps."""

    samples: int
    take_steps: Callable[..., tuple[TrainState, Mapping[str, Any]]]
    """`(states, orders, start, stop) -> (states, sums)`; it may reuse the buffers of `states`."""


@contextmanager
def open_epochs(
    data: Split | Batch | Stream, train_step: TrainStep, batch_size: int, strategy: Strategy
) -> Iterator[Epochs]:
    """Opens data: `train_epoch_replicas` takes its steps on the device, `StreamedEpochs` others."""
    if isinstance(data, Stream):
        with closing(StreamedEpochs(data, train_step, batch_size)) as streamed:
            yield Epochs(len(data), streamed.take_steps)
        return
    batch = on_device(data)
    more: Any = {"train_step": train_step, "batch_size": batch_size, "strategy": strategy}

    def take_steps(states: TrainState, orders: Orders, start: int, stop: int) -> Any:
        return _jitted(states, batch, *put((orders, start, stop)), **more)

    yield Epochs(len(jax.tree.leaves(batch)[0]), take_steps)


def train_epoch_replicas(
    states: TrainState,
    data: Batch,
    permutations: Orders,
    start: Bound,
    stop: Bound,
    *,
    train_step: TrainStep,
    batch_size: int,
    strategy: Strategy,
) -> tuple[TrainState, dict[str, Shaped[Array, "replicas steps"]]]:
    """`train_epoch` for every replica of a stack, in the strategy `"map"` or `"vmap"`; pure."""
    epoch = partial(train_epoch, train_step=train_step, batch_size=batch_size)
    return each(strategy, lambda x: epoch(x[0], data, x[1], start, stop), (states, permutations))


_jitted = jax.jit(
    train_epoch_replicas,
    static_argnames=("train_step", "batch_size", "strategy"),
    donate_argnames="states",
)


class StreamedEpochs:
    """`train_epoch_replicas` for a `Stream` and one replica: batches go to the step as they arrive.

    The stream keeps reading ahead from one call to the next if their steps follow each other.
    """

    def __init__(self, data: Stream, train_step: TrainStep, batch_size: int) -> None:
        def step(states: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
            return each("map", lambda state: train_step(state, batch), states)

        self._data, self._batch_size = data, batch_size
        self._step = jax.jit(step, donate_argnums=0)
        # On CPU, two programs with collectives in flight can deadlock: run one at a time.
        self._in_flight = 0 if jax.default_backend() == "cpu" else 2
        self._sums: dict[str, Array] = {}
        self._order, self._next_step, self._batches = None, 0, None

    def take_steps(
        self, states: TrainState, orders: Orders, start: int, stop: int
    ) -> tuple[TrainState, dict[str, Shaped[np.ndarray, "replicas steps"]]]:
        """Takes steps `start` to `stop`, as `train_epoch_replicas` does, and returns the same."""
        if len(orders) > 1:
            raise ValueError(
                f"A stream trains one seed, not {len(orders)}, which would each read it in another "
                "order: train them one by one, or with the data in memory."
            )
        steps = -(-len(self._data) // self._batch_size)
        if not self._sums:
            self._compile(states, jax.device_get(orders)[0], steps)
        epoch_sums = {
            name: np.zeros((1, steps, *x.shape[1:]), x.dtype) for name, x in self._sums.items()
        }
        if start == stop:
            return states, epoch_sums
        batches, taken = self._batches_from(orders, start), []
        for _ in range(start, stop):
            states, sums = self._step(states, put(next(batches)))
            taken.append(sums)
            jax.block_until_ready(taken[: len(taken) - self._in_flight][-1:])
        self._next_step = stop
        for step, sums in enumerate(jax.device_get(taken), start):
            for name, x in sums.items():
                epoch_sums[name][:, step] = x
        return states, epoch_sums

    def close(self) -> None:
        """Stops reading ahead."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def _compile(self, states: TrainState, order: np.ndarray, steps: int) -> None:
        """Compiles the step for both batch sizes: takes the first and the last step on a copy."""
        for step in sorted({0, steps - 1}):
            batch = self._data.batch(order, self._batch_size, step)
            copy = jax.tree.map(jnp.copy, states)
            _, self._sums = jax.block_until_ready(self._step(copy, batch))

    def _batches_from(self, orders: Orders, start: int) -> Iterator[Batch]:
        if self._batches is None or orders is not self._order or start != self._next_step:
            self.close()
            self._order = orders
            self._batches = self._data.batches(jax.device_get(orders)[0], self._batch_size, start)
        return self._batches
