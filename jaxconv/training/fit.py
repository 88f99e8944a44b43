"""`fit`: trains one state for some epochs, and keeps the history."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from jaxconv._checks import check_positive
from jaxconv.data.arrays import Batch, Split
from jaxconv.data.stream import Stream
from jaxconv.training import metrics
from jaxconv.training.epoch import compiled_epoch, compiled_permutation, run_epochs
from jaxconv.training.evaluate import Row, evaluate, on_device
from jaxconv.training.state import ResumePoint, TrainState
from jaxconv.training.step import EvalStep, TrainStep
from jaxconv.training.streamed import StreamedEpoch

Save = Callable[[TrainState, ResumePoint], None]


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
    resume: ResumePoint | None = None,
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
        callbacks remember themselves is in no `ResumePoint`.
      on_chunk: called after each chunk with the running means, `epoch`, `step`, `steps` and the
        `seconds` that the epoch has taken.
      check_finite: end with an error, not later than a chunk after, when a loss or a parameter is
        no longer finite; False for an optimizer that skips such steps.
      save: called after each chunk, once it is known to be finite, and after each epoch's
        callbacks, with the state and the `ResumePoint`, such as a `checkpoint.Checkpoints`. The
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
        run = functools.partial(compiled_epoch, train_step=train_step, batch_size=batch_size)

    def order_of(rng: Array, epoch: int) -> Array | np.ndarray:
        if shuffle:
            return compiled_permutation(rng, epoch, samples)
        return np.arange(samples, dtype=np.int32)  # on whatever devices the state is on

    history: list[Row] = [] if resume is None else [dict(row) for row in resume.histories[0]]

    def position(state: TrainState, **under_way: Any) -> ResumePoint:
        return ResumePoint(int(state.step), range(1), [list(history)], **under_way)

    def after_chunk(
        state: TrainState, epoch: int, sums: Mapping[str, np.ndarray], seconds: float, *, last: bool
    ) -> None:
        if check_finite:
            _check_finite(state, epoch, sums)
        if save is not None and not last:
            save(state, position(state, sums=sums, seconds=seconds))

    ends = run_epochs(
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
