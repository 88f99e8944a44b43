"""Training: an epoch as one compiled program, and `fit` around it."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, Shaped

from jaxconv import metrics
from jaxconv.checks import check_positive
from jaxconv.data import Batch, Split, epoch_permutation
from jaxconv.evaluation import Row, as_batch, evaluate
from jaxconv.train import EvalStep, TrainState, TrainStep


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


def fit(
    state: TrainState,
    data: Split | Batch,
    *,
    train_step: TrainStep,
    epochs: int,
    batch_size: int,
    validation: Split | Batch | None = None,
    eval_step: EvalStep | None = None,
    shuffle: bool = True,
    chunks: int = 20,
    callbacks: Sequence[Callable[[TrainState, Row], bool | None]] = (),
    on_chunk: Callable[[Row], None] | None = None,
) -> tuple[TrainState, list[Row]]:
    """Trains for some epochs, as `keras.Model.fit` does, one compiled program an epoch.

    Epochs are counted from `state.step`, so that a second call with the same data and batch size
    goes on where the first one ended and shuffles anew. The caller's `state` stays usable: only
    copies are donated.

    Args:
      state: where to begin, e.g. from `create_train_state`.
      data: the training split.
      train_step: as `make_train_step` makes it.
      epochs: how many epochs to train.
      batch_size: samples a step; the last step of an epoch takes what is left.
      validation: evaluated after each epoch, as `val_loss` and so on.
      eval_step: as `make_eval_step` makes it; needed for `validation`.
      shuffle: a full permutation every epoch; otherwise the order of the data.
      chunks: into how many calls an epoch is cut, so that progress shows and Ctrl-C is heard. It
        never changes a bit of the result.
      callbacks: called after each epoch with the state and the epoch's row; one that returns True
        ends the training. The state's buffers are reused after that: copy what is to be kept.
      on_chunk: called after each chunk with the running means, `epoch`, `step`, `steps` and the
        `seconds` that the epoch has taken.

    Returns:
      The final state, and the history: for each epoch a row with `epoch`, the means over all its
      samples while the weights moved, the validation's, and `seconds` (training alone, compiled).

    Raises:
      ValueError: if a number is not positive, or `validation` comes without `eval_step`.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> data = jax.tree.map(lambda x: x[:256], jaxconv.load_dataset("mnist").train.batch())
      >>> state, history = jaxconv.fit(
      ...     state, data, train_step=jaxconv.make_train_step(model, tx), epochs=3, batch_size=64
      ... )
      >>> history[2]["loss"] < history[0]["loss"]
      True

    Source: https://keras.io/api/models/model_training_apis/ (fit)
    """
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("chunks", chunks)):
        check_positive(name, value)
    if validation is not None and eval_step is None:
        raise ValueError("validation needs an eval_step: make_eval_step(model, loss=...).")
    batch = jax.device_put(as_batch(data))
    held_out = None if validation is None else jax.device_put(as_batch(validation))
    samples = len(jax.tree.leaves(batch)[0])
    run = functools.partial(_train_epoch, train_step=train_step, batch_size=batch_size)

    def order_of(rng: Array, epoch: int) -> Array:
        if shuffle:
            return _epoch_permutation(rng, epoch, samples)
        return jnp.arange(samples, dtype=jnp.int32)

    history: list[Row] = []
    ends = train_epochs(
        state, batch, run, order_of, epochs=epochs, chunks=chunks, on_chunk=on_chunk
    )
    for epoch, state, sums, seconds in ends:
        row: Row = {"epoch": epoch, **metrics.mean(sums)}
        if held_out is not None and eval_step is not None:
            means = evaluate(state, held_out, eval_step=eval_step)
            row |= {f"val_{name}": value for name, value in means.items()}
        history.append(row | {"seconds": seconds})
        if any([callback(state, history[-1]) for callback in callbacks]):
            break
    return state, history


def train_epochs(
    state: TrainState,
    data: Batch,
    run: Callable[..., tuple[TrainState, dict[str, Array]]],
    order_of: Callable[[Array, int], Array],
    *,
    epochs: int,
    chunks: int,
    on_chunk: Callable[[Row], None] | None = None,
) -> Iterator[tuple[int, TrainState, dict[str, np.ndarray], float]]:
    """Epoch after epoch in chunks: what `fit` and `seeds.fit_seeds` have in common.

    Args:
      state: where to begin, one state or a stack of replicas at the same step. It is copied.
      data: the batch of all samples, on the device.
      run: `train_epoch`, compiled, donating its first argument; the steps are its sums' last axis.
      order_of: `(rng, epoch) -> permutation`, from the state's root key or keys.
      epochs: how many epochs to train, counted from `state.step`.
      chunks: into how many calls an epoch is cut.
      on_chunk: as in `fit`.

    Yields:
      After each epoch its number, counted from 1, the state, the sums of all its steps on the host,
      and the seconds that it took. The state's buffers are reused when the next epoch begins.
    """
    # No step is taken here: it compiles, so that no epoch's time has it.
    state, rows = run(jax.tree.map(jnp.copy, state), data, order_of(state.rng, 0), 0, 0)
    steps = rows["count"].shape[-1]
    chunk = -(-steps // chunks)
    first = -(-int(np.max(jax.device_get(state.step))) // steps)
    for epoch in range(first, first + epochs):
        order, total, seconds = order_of(state.rng, epoch), {}, 0.0
        for start in range(0, steps, chunk):
            stop = min(start + chunk, steps)
            began = time.perf_counter()
            state, rows = run(state, data, order, start, stop)
            rows = jax.device_get(rows)
            seconds += time.perf_counter() - began
            total = metrics.merge(total, rows) if total else rows
            if on_chunk is not None and total["count"].any():
                position = {"epoch": epoch + 1, "step": stop, "steps": steps}
                on_chunk(position | metrics.mean(total) | {"seconds": seconds})
        yield epoch + 1, state, total, seconds


_train_epoch = jax.jit(
    train_epoch, static_argnames=("train_step", "batch_size"), donate_argnames="state"
)
_epoch_permutation = jax.jit(epoch_permutation, static_argnames="samples")
