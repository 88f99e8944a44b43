"""`fit`: trains one state for some epochs, and keeps the history."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from jaxconv._checks import check_positive
from jaxconv.data.arrays import Batch, Split
from jaxconv.data.stream import Stream
from jaxconv.training import metrics
from jaxconv.training._batches import on_device
from jaxconv.training._finite import raise_if_not_finite
from jaxconv.training.epoch import jitted_epoch_permutation, jitted_train_epoch, run_epochs
from jaxconv.training.evaluate import evaluate
from jaxconv.training.metrics import Row
from jaxconv.training.state import ResumePoint, TrainState
from jaxconv.training.step import EvalStep, TrainStep
from jaxconv.training.streamed import StreamedEpoch

Save = Callable[[TrainState, ResumePoint], None]
"""Keeps a state and its resume point, such as `runs.Checkpoints`."""


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
    """Trains for some epochs, as `keras.Model.fit` does, one compiled program for each epoch.

    `fit` counts epochs from `state.step`, so that a second call with the same data and batch size
    continues where the first one ended, with new shuffles. Your `state` stays usable: `fit` donates
    a copy. Callbacks and `save` get a state whose buffers `fit` then reuses: copy what you keep.

    Args:
      state: where to start, such as a state from `create_train_state`.
      data: the training split, in memory or as a `Stream`.
      train_step: from `make_train_step`.
      epochs: how many epochs to train.
      batch_size: samples per step; the last step of an epoch takes the rest.
      validation: data to evaluate after each epoch, as `val_loss` and so on.
      eval_step: from `make_eval_step`; needed for `validation`.
      shuffle: True for a full permutation every epoch, False for the order of the data.
      chunks: the number of calls that make up an epoch, so that progress shows and Ctrl-C works. It
        never changes a bit of the result.
      callbacks: called after each epoch with the state and the epoch's row. One that returns True
        ends the training. A `ResumePoint` does not hold what callbacks remember.
      on_chunk: called after each chunk with the running means, `epoch`, `step`, `steps` and the
        `seconds` that the epoch has taken.
      check_finite: True to raise an error, at most a chunk late, when a loss or a parameter is no
        longer finite; False for an optimizer that skips such steps.
      save: called with the state and its `ResumePoint` after each chunk, once all is known to be
        finite, and after each epoch's callbacks.
      save_every: also end a chunk whenever `state.step` is a multiple of this.
      resume: the point at which `state` was saved. `fit` finishes the epoch in progress, counts the
        finished epochs among `epochs`, and returns the whole history.

    Returns:
      The final state and the history. Each epoch's row has `epoch` (counted from 1), the means over
      its samples while the weights moved, the validation's means, and the `seconds` of training,
      without compilation and validation.

    Raises:
      ValueError: if a number is not positive, `validation` comes without `eval_step`, or `resume`
        is from other data or another batch size.
      FloatingPointError: with `check_finite`, naming the first step whose loss is not finite.

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
        source, samples = data, len(data)
        epoch_fn = StreamedEpoch(train_step, batch_size)
    else:
        source = on_device(data)
        samples = len(jax.tree.leaves(source)[0])
        options = {"train_step": train_step, "batch_size": batch_size}
        epoch_fn = functools.partial(jitted_train_epoch, **options)
    history: list[Row] = [] if resume is None else [dict(row) for row in resume.histories[0]]

    def order_fn(rng: Array, epoch: int) -> Array | np.ndarray:
        if shuffle:
            return jitted_epoch_permutation(rng, epoch, samples)
        return np.arange(samples, dtype=np.int32)  # NumPy: JAX puts it wherever the state is

    def resume_point(state: TrainState, **current: Any) -> ResumePoint:
        return ResumePoint(int(state.step), range(1), [list(history)], **current)

    def after_chunk(
        state: TrainState, epoch: int, sums: Mapping[str, np.ndarray], seconds: float, *, last: bool
    ) -> None:
        if check_finite:
            raise_if_not_finite(state, epoch, sums)
        if save is not None and not last:
            save(state, resume_point(state, sums=sums, seconds=seconds))

    finished_epochs = run_epochs(
        state,
        source,
        epoch_fn,
        order_fn,
        epochs=0 if resume is not None and resume.stopped else epochs - len(history),
        chunks=chunks,
        on_chunk=on_chunk,
        after_chunk=after_chunk,
        save_every=save_every,
        resume=resume,
    )
    try:
        for epoch, state, sums, seconds in finished_epochs:
            row: Row = {"epoch": epoch, **metrics.mean(sums)}
            if held_out is not None and eval_step is not None:
                means = evaluate(state, held_out, eval_step=eval_step)
                row |= {f"val_{name}": value for name, value in means.items()}
            history.append(row | {"seconds": seconds})
            stop = any([callback(state, history[-1]) for callback in callbacks])
            if save is not None:
                save(state, resume_point(state, stopped=stop))
            if stop:
                break
    finally:
        if isinstance(epoch_fn, StreamedEpoch):
            epoch_fn.close()
    return state, history
