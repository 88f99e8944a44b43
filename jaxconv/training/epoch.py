"""An epoch as one compiled program, and the loop over epochs that `fit` and `fit_seeds` share."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, Shaped

from jaxconv._checks import check_positive
from jaxconv.data.arrays import Batch
from jaxconv.data.stream import Stream
from jaxconv.training import metrics
from jaxconv.training.keys import epoch_permutation
from jaxconv.training.metrics import Row
from jaxconv.training.state import ResumePoint, TrainState
from jaxconv.training.step import TrainStep

EpochFn = Callable[..., tuple[TrainState, dict[str, Any]]]
"""`(state, data, permutation, start, stop) -> (state, sums)`, such as a partial `train_epoch`."""
OrderFn = Callable[[Array, int], Array | np.ndarray]
"""`(rng, epoch) -> permutation`, from the root key in a state."""


def train_epoch(
    state: TrainState,
    data: Batch,
    permutation: Int[Array, " samples"],
    start: int | Int[Array, ""],
    stop: int | Int[Array, ""],
    *,
    train_step: TrainStep,
    batch_size: int,
) -> tuple[TrainState, dict[str, Shaped[Array, " steps"]]]:
    """Takes steps `start` to `stop` of an epoch, in one loop over data on the device; pure.

    The bounds are traced, so that one compiled program serves chunks of any length, resumption in
    mid-epoch and, under `vmap`, replicas. The last, partial batch is a step at its own size.

    Args:
      state: the state before step `start`.
      data: all samples as one batch, such as `Split.batch()`.
      permutation: their order in this epoch, such as `epoch_permutation`.
      start: the first step to take.
      stop: the step to stop before, at most `ceil(samples / batch_size)`.
      train_step: `(state, batch) -> (state, sums)`.
      batch_size: samples per step.

    Returns:
      The state before step `stop`, and the sums, one value for each step of the epoch. Steps not
      taken have zeros, so that the sums of chunks merge by addition.

    Raises:
      ValueError: if `batch_size` is not positive.

    Example:
      >>> import functools, jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> data = jax.tree.map(lambda x: x[:100], jaxconv.load_dataset("mnist").train.batch())
      >>> train_step = jaxconv.make_train_step(model, tx)
      >>> epoch_fn = functools.partial(jaxconv.train_epoch, train_step=train_step, batch_size=32)
      >>> permutation = jaxconv.epoch_permutation(state.rng, 0, 100)
      >>> state, sums = jax.jit(epoch_fn)(state, data, permutation, 0, 4)
      >>> int(state.step), sums["count"].tolist()
      (4, [32, 32, 32, 4])
    """
    check_positive("batch_size", batch_size)
    full, rest = divmod(permutation.shape[0], batch_size)
    start, stop = jnp.asarray(start, jnp.int32), jnp.asarray(stop, jnp.int32)

    def batch_at(step: int | Array, size: int) -> Batch:
        rows = lax.dynamic_slice_in_dim(permutation, step * batch_size, size)
        return jax.tree.map(lambda x: jnp.asarray(x)[rows], data)

    def take_step(step: int | Array, carry: Any, size: int = batch_size) -> Any:
        state, epoch_sums = carry
        state, sums = train_step(state, batch_at(step, size))
        return state, jax.tree.map(lambda xs, x: xs.at[step].set(x), epoch_sums, sums)

    a_batch = jax.eval_shape(lambda: batch_at(0, rest or batch_size))
    _, sums = jax.eval_shape(train_step, state, a_batch)
    steps = full + (rest > 0)
    carry = state, {name: jnp.zeros((steps, *x.shape), x.dtype) for name, x in sums.items()}
    if full:
        carry = lax.fori_loop(start, jnp.minimum(stop, full), take_step, carry)
    if rest:
        due = (start <= full) & (full < stop)
        carry = lax.cond(due, lambda c: take_step(full, c, rest), lambda c: c, carry)
    return carry


jitted_train_epoch = jax.jit(
    train_epoch, static_argnames=("train_step", "batch_size"), donate_argnames="state"
)
jitted_epoch_permutation = jax.jit(epoch_permutation, static_argnames="samples")


def run_epochs(
    state: TrainState,
    data: Batch | Stream,
    epoch_fn: EpochFn,
    order_fn: OrderFn,
    *,
    epochs: int,
    chunks: int,
    on_chunk: Callable[[Row], None] | None = None,
    after_chunk: Callable[..., None] | None = None,
    save_every: int | None = None,
    resume: ResumePoint | None = None,
) -> Iterator[tuple[int, TrainState, dict[str, np.ndarray], float]]:
    """Runs epoch after epoch in chunks, for one state or for a stack of replicas.

    Args:
      state: where to start; replicas must all be at the same step. It is copied.
      data: the batch of all samples, on the device, or their stream.
      epoch_fn: compiled, donating its first argument. The last axis of its sums is the steps.
      order_fn: gives the order of an epoch; replicas have a stack of keys and of orders.
      epochs: how many epochs to train, counted from `state.step`.
      chunks: how many calls of `epoch_fn` an epoch takes, not counting those for `save_every`.
      on_chunk: as in `fit`.
      after_chunk: called after each chunk with the state, the epoch (counted from 1), the sums and
        the seconds of all its steps so far, and `last`: whether the epoch has ended.
      save_every: as in `fit`.
      resume: as in `fit`.

    Yields:
      After each epoch: its number, counted from 1; the state; the sums of all its steps, on the
      host; and the seconds that it took. The next epoch reuses the state's buffers.

    Raises:
      ValueError: if the epoch to resume has another number of steps.
    """
    # Zero steps: compiles the program before the clock starts.
    state, no_sums = epoch_fn(jax.tree.map(jnp.copy, state), data, order_fn(state.rng, 0), 0, 0)
    shape = no_sums["count"].shape
    steps = shape[-1]
    first_epoch, start = divmod(int(np.max(jax.device_get(state.step))), steps)
    sums, seconds = ({}, 0.0) if resume is None else (dict(resume.sums), resume.seconds)
    if sums and sums["count"].shape != shape:
        raise ValueError(
            f"The resume point is in an epoch of {sums['count'].shape} steps, this one has "
            f"{shape}: resume with the same data and batch size."
        )
    if start and not sums:  # another loop took these steps: start with the next whole epoch
        first_epoch, start = first_epoch + 1, 0
    for epoch in range(first_epoch, first_epoch + epochs):
        order = order_fn(state.rng, epoch)
        for stop in _chunk_ends(epoch * steps, start, steps, -(-steps // chunks), save_every):
            began = time.perf_counter()
            state, chunk_sums = epoch_fn(state, data, order, start, stop)
            chunk_sums = jax.device_get(chunk_sums)
            seconds += time.perf_counter() - began
            sums = metrics.merge(sums, chunk_sums) if sums else chunk_sums
            if on_chunk is not None and sums["count"].any():
                progress = {"epoch": epoch + 1, "step": stop, "steps": steps}
                on_chunk(progress | metrics.mean(sums) | {"seconds": seconds})
            if after_chunk is not None:
                after_chunk(state, epoch + 1, sums, seconds, last=stop == steps)
            start = stop
        yield epoch + 1, state, sums, seconds
        start, sums, seconds = 0, {}, 0.0


def _chunk_ends(
    before: int, start: int, steps: int, chunk: int, save_every: int | None
) -> list[int]:
    """The steps of an epoch after which a chunk ends.

    Args:
      before: the steps of the run before this epoch.
      start: the steps of the epoch taken so far.
      steps: the steps of the epoch.
      chunk: the steps per chunk.
      save_every: the steps of the run between two saves.

    Example:
      >>> _chunk_ends(before=10, start=3, steps=10, chunk=4, save_every=6)
      [4, 8, 10]
    """
    saves = range(-before % save_every, steps, save_every) if save_every else ()
    return sorted(end for end in {*range(0, steps, chunk), *saves, steps} if end > start)
