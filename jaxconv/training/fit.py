"""Training: an epoch as one compiled program, and `fit` around it."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, PyTree, Shaped

from jaxconv import metrics
from jaxconv.checks import check_positive
from jaxconv.data import Batch, Split, epoch_permutation
from jaxconv.evaluation import Row, evaluate, on_device
from jaxconv.position import Position
from jaxconv.stream import Stream, StreamedEpoch
from jaxconv.train import EvalStep, TrainState, TrainStep

Save = Callable[[TrainState, Position], None]


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
    data: Split | Batch | Stream,
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
    check_finite: bool = True,
    save: Save | None = None,
    save_every: int | None = None,
    resume: Position | None = None,
) -> tuple[TrainState, list[Row]]:
    """Trains for some epochs, as `keras.Model.fit` does, one compiled program an epoch.

    Epochs are counted from `state.step`, so that a second call with the same data and batch size
    goes on where the first one ended and shuffles anew. The caller's `state` stays usable: only
    copies are donated.

    Args:
      state: where to begin, e.g. from `create_train_state`.
      data: the training split, in memory or as a `Stream`.
      train_step: as `make_train_step` makes it.
      epochs: how many epochs to train.
      batch_size: samples a step; the last step of an epoch takes what is left.
      validation: evaluated after each epoch, as `val_loss` and so on.
      eval_step: as `make_eval_step` makes it; needed for `validation`.
      shuffle: a full permutation every epoch; otherwise the order of the data.
      chunks: into how many calls an epoch is cut, so that progress shows and Ctrl-C is heard. It
        never changes a bit of the result.
      callbacks: called after each epoch with the state and the epoch's row; one that returns True
        ends the training. The state's buffers are reused after that: copy what is to be kept. What
        callbacks remember themselves is in no `Position`.
      on_chunk: called after each chunk with the running means, `epoch`, `step`, `steps` and the
        `seconds` that the epoch has taken.
      check_finite: end with an error, not later than a chunk after, when a loss or a parameter is
        no longer finite; False for an optimizer that skips such steps.
      save: called after each chunk, once it is known to be finite, and after each epoch's
        callbacks, with the state and the `Position`, such as a `checkpoint.Checkpoints`. The
        state's buffers are reused after that.
      save_every: end a chunk after every so many steps, counted by `state.step`, as well.
      resume: the position that `state` was saved at. The epochs that it holds count among `epochs`,
        the epoch under way is ended, and the history is whole.

    Returns:
      The final state, and the history: for each epoch a row with `epoch`, the means over all its
      samples while the weights moved, the validation's, and `seconds` (training alone, compiled).

    Raises:
      ValueError: if a number is not positive, or `validation` comes without `eval_step`.
      FloatingPointError: with `check_finite`, naming the first step with a loss that is not finite.

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
    if save_every is not None:
        check_positive("save_every", save_every)
    if validation is not None and eval_step is None:
        raise ValueError("validation needs an eval_step: make_eval_step(model, loss=...).")
    held_out = None if validation is None else on_device(validation)
    if isinstance(data, Stream):
        batch, samples = data, len(data)
        run = StreamedEpoch(train_step, batch_size)
    else:
        batch = on_device(data)
        samples = len(jax.tree.leaves(batch)[0])
        run = functools.partial(_train_epoch, train_step=train_step, batch_size=batch_size)

    def order_of(rng: Array, epoch: int) -> Array | np.ndarray:
        if shuffle:
            return _epoch_permutation(rng, epoch, samples)
        return np.arange(samples, dtype=np.int32)  # on whatever devices the state is on

    history: list[Row] = [] if resume is None else [dict(row) for row in resume.histories[0]]

    def position(state: TrainState, **under_way: Any) -> Position:
        return Position(int(state.step), range(1), [list(history)], **under_way)

    def after_chunk(
        state: TrainState, epoch: int, sums: Mapping[str, np.ndarray], seconds: float, *, last: bool
    ) -> None:
        if check_finite:
            _check_finite(state, epoch, sums)
        if save is not None and not last:
            save(state, position(state, sums=sums, seconds=seconds))

    ends = train_epochs(
        state,
        batch,
        run,
        order_of,
        epochs=0 if resume is not None and resume.stopped else epochs - len(history),
        chunks=chunks,
        on_chunk=on_chunk,
        after_chunk=after_chunk,
        save_every=save_every,
        resume=resume,
    )
    try:
        for epoch, state, sums, seconds in ends:
            row: Row = {"epoch": epoch, **metrics.mean(sums)}
            if held_out is not None and eval_step is not None:
                means = evaluate(state, held_out, eval_step=eval_step)
                row |= {f"val_{name}": value for name, value in means.items()}
            history.append(row | {"seconds": seconds})
            stop = any([callback(state, history[-1]) for callback in callbacks])
            if save is not None:
                save(state, position(state, stopped=stop))
            if stop:
                break
    finally:
        if isinstance(run, StreamedEpoch):
            run.close()
    return state, history


def train_epochs(
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
    resume: Position | None = None,
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


def _check_finite(state: TrainState, epoch: int, sums: Mapping[str, np.ndarray]) -> None:
    losses = sums["loss"]
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        what = f"The loss is {losses[bad[0]]} at step {bad[0] + 1} of epoch {epoch}"
    elif not _all_finite((state.params, state.batch_stats)):
        what = f"A parameter is no longer finite after step {int(state.step)}, in epoch {epoch}"
    else:
        return
    raise FloatingPointError(
        f"{what}. Likely causes: a learning rate that is too high, images that are not scaled, or "
        "a dtype with too small a range."
    )


@jax.jit
def _all_finite(tree: PyTree[Array]) -> Bool[Array, ""]:
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in leaves] or [jnp.array(True)]))


_train_epoch = jax.jit(
    train_epoch, static_argnames=("train_step", "batch_size"), donate_argnames="state"
)
_epoch_permutation = jax.jit(epoch_permutation, static_argnames="samples")
