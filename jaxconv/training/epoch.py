"""An epoch as one compiled program, and the loop over epochs that every driver shares."""

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
from jaxconv.training.evaluate import Row
from jaxconv.training.keys import epoch_permutation
from jaxconv.training.state import ResumePoint, TrainState
from jaxconv.training.step import TrainStep


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
    """Steps `start` to `stop` of an epoch as one loop over data on the device; pure.

    The bounds are traced, so that one compiled program serves chunks of any length, resumption in
    mid-epoch and, under `vmap`, replicas. The last, partial batch is a step at its own size.

    Args:
      state: the state before step `start`.
      data: all samples: a batch of the whole split, `Split.batch()`.
      permutation: their order in this epoch, e.g. `epoch_permutation`.
      start: the first step to take.
      stop: the step to stop before, at most `ceil(samples / batch_size)`.
      train_step: `(state, batch) -> (state, sums)`.
      batch_size: samples a step.

    Returns:
      The state before step `stop`, and the step's sums with one row for each step of the epoch,
      zero where no step was taken: chunks merge by addition.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> data = jax.tree.map(lambda x: x[:100], jaxconv.load_dataset("mnist").train.batch())
      >>> train_step = jaxconv.make_train_step(model, tx)
      >>> run = functools.partial(jaxconv.train_epoch, train_step=train_step, batch_size=32)
      >>> order = jaxconv.epoch_permutation(state.rng, 0, 100)
      >>> state, sums = jax.jit(run)(state, data, order, 0, 4)
      >>> int(state.step), sums["count"].tolist()
      (4, [32, 32, 32, 4])
    """
    check_positive("batch_size", batch_size)
    full, rest = divmod(permutation.shape[0], batch_size)
    start, stop = jnp.asarray(start, jnp.int32), jnp.asarray(stop, jnp.int32)

    def take(step: int | Array, size: int) -> Batch:
        rows = lax.dynamic_slice_in_dim(permutation, step * batch_size, size)
        return jax.tree.map(lambda x: jnp.asarray(x)[rows], data)

    def run(step: int | Array, carry: Any, size: int = batch_size) -> Any:
        state, rows = carry
        state, sums = train_step(state, take(step, size))
        return state, jax.tree.map(lambda row, x: row.at[step].set(x), rows, sums)

    _, sums = jax.eval_shape(train_step, state, jax.eval_shape(lambda: take(0, rest or batch_size)))
    rows = {name: jnp.zeros((full + (rest > 0), *x.shape), x.dtype) for name, x in sums.items()}
    carry = state, rows
    if full:
        carry = lax.fori_loop(start, jnp.minimum(stop, full), run, carry)
    if rest:
        reached = (start <= full) & (full < stop)
        carry = lax.cond(reached, lambda c: run(full, c, rest), lambda c: c, carry)
    return carry


def run_epochs(
    state: TrainState,
    data: Batch | Stream,
    run: Callable[..., tuple[TrainState, dict[str, Any]]],
    order_of: Callable[[Array, int], Array | np.ndarray],
    *,
    epochs: int,
    chunks: int,
    on_chunk: Callable[[Row], None] | None = None,
    after_chunk: Callable[..., None] | None = None,
    save_every: int | None = None,
    resume: ResumePoint | None = None,
) -> Iterator[tuple[int, TrainState, dict[str, np.ndarray], float]]:
    """Epoch after epoch in chunks: what `fit` and `seeds.fit_seeds` have in common.

    Args:
      state: where to begin, one state or a stack of replicas at the same step. It is copied.
      data: the batch of all samples, on the device, or their stream.
      run: `train_epoch`, compiled, donating its first argument; the steps are its sums' last axis.
      order_of: `(rng, epoch) -> permutation`, from the state's root key or keys.
      epochs: how many epochs to train, counted from `state.step`.
      chunks: into how many calls an epoch is cut.
      on_chunk: as in `fit`.
      after_chunk: called after each chunk with the state, the epoch, counted from 1, the sums and
        the seconds of all its steps so far, and `last`, whether the epoch ends.
      save_every: as in `fit`.
      resume: as in `fit`.

    Yields:
      After each epoch its number, counted from 1, the state, the sums of all its steps on the host,
      and the seconds that it took. The state's buffers are reused when the next epoch begins.
    """
    # No step is taken here: it compiles, so that no epoch's time has it.
    state, rows = run(jax.tree.map(jnp.copy, state), data, order_of(state.rng, 0), 0, 0)
    steps = rows["count"].shape[-1]
    first, start = divmod(int(np.max(jax.device_get(state.step))), steps)
    total, seconds = ({}, 0.0) if resume is None else (dict(resume.sums), resume.seconds)
    if total and total["count"].shape != rows["count"].shape:
        raise ValueError(
            f"The position to resume is in an epoch of {total['count'].shape} steps, this one has "
            f"{rows['count'].shape}: resume with the same data and batch size."
        )
    if start and not total:  # steps of another loop: begin with the next whole epoch
        first, start = first + 1, 0
    for epoch in range(first, first + epochs):
        order = order_of(state.rng, epoch)
        for stop in _stops(epoch * steps, start, steps, -(-steps // chunks), save_every):
            began = time.perf_counter()
            state, rows = run(state, data, order, start, stop)
            rows = jax.device_get(rows)
            seconds += time.perf_counter() - began
            total = metrics.merge(total, rows) if total else rows
            if on_chunk is not None and total["count"].any():
                position = {"epoch": epoch + 1, "step": stop, "steps": steps}
                on_chunk(position | metrics.mean(total) | {"seconds": seconds})
            if after_chunk is not None:
                after_chunk(state, epoch + 1, total, seconds, last=stop == steps)
            start = stop
        yield epoch + 1, state, total, seconds
        start, total, seconds = 0, {}, 0.0


def _stops(before: int, start: int, steps: int, chunk: int, save_every: int | None) -> list[int]:
    """Where the chunks of an epoch end: at every `chunk`, every `save_every` of the run, its end.

    Example:
      >>> _stops(before=10, start=3, steps=10, chunk=4, save_every=6)
      [4, 8, 10]
    """
    saves = range(-before % save_every, steps, save_every) if save_every else ()
    return sorted(stop for stop in {*range(0, steps, chunk), *saves, steps} if stop > start)


compiled_epoch = jax.jit(
    train_epoch, static_argnames=("train_step", "batch_size"), donate_argnames="state"
)


compiled_permutation = jax.jit(epoch_permutation, static_argnames="samples")
