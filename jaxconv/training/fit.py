"""`fit` trains a net; `train_group` is the one driver, for one state or for many replicas."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxconv._checks import check_callbacks
from jaxconv.data.arrays import Batch, Split
from jaxconv.data.stream import Stream
from jaxconv.training import metrics
from jaxconv.training._batches import check_samples, on_device
from jaxconv.training._finite import raise_if_not_finite
from jaxconv.training._stacked import Strategy, epoch_orders, first_state, stack_states, sum_steps
from jaxconv.training.average import averaged
from jaxconv.training.best import check_validation, kept, update_best
from jaxconv.training.evaluate import evaluate_beside
from jaxconv.training.metrics import Row
from jaxconv.training.resume_point import ResumePoint, Save, find_place
from jaxconv.training.schedule import Schedule
from jaxconv.training.sources import Epochs, open_epochs
from jaxconv.training.state import TrainState
from jaxconv.training.step import Classifier


def train_group(
    net: Classifier,
    states: TrainState,
    data: Epochs,
    schedule: Schedule,
    *,
    histories: list[list[Row]],
    members: range = range(1),
    steps_before: int = 0,
    strategy: Strategy = "map",
    held_out: Mapping[str, Batch],
    on_chunk: Callable[[Row], None] | None,
    on_epoch: Callable[[TrainState, list[Row]], bool],
    save: Save | None,
    resume: ResumePoint | None,
) -> TrainState:
    """The driver: trains stacked replicas together, and appends their rows to their histories.

    `members` are their places among the `histories`, and `steps_before` the steps of the groups
    before them. It evaluates the batches `held_out`: `val` after each epoch, `test` after the last.
    """
    history = histories[members.start]

    def save_at(states: TrainState, **current: Any) -> None:
        if save is not None:
            taken = steps_before + sum_steps(states)
            save(states, ResumePoint(taken, members, [list(rows) for rows in histories], **current))

    evaluate = functools.partial(evaluate_beside, net, held_out, strategy)
    # Zero steps: compiles the program before the clock starts.
    orders = epoch_orders(states.rng, 0, data.samples, schedule.shuffle, strategy)
    states, no_sums = data.take_steps(jax.tree.map(jnp.copy, states), orders, 0, 0)
    replicas, steps = no_sums["count"].shape
    first, start, sums, seconds = find_place(states, replicas, steps, resume)
    left = 0 if resume is not None and resume.stopped else schedule.epochs - len(history)
    for epoch in range(first, first + left):
        orders = epoch_orders(states.rng, epoch, data.samples, schedule.shuffle, strategy)
        for stop in schedule.chunk_ends(epoch, start, steps):
            began = time.perf_counter()
            states, chunk_sums = data.take_steps(states, orders, start, stop)
            chunk_sums = jax.device_get(dict(chunk_sums))
            seconds += time.perf_counter() - began
            sums = {name: x + sums.get(name, 0) for name, x in chunk_sums.items()}
            if on_chunk is not None and sums["count"].any():
                place = {"epoch": epoch + 1, "step": stop, "steps": steps}
                on_chunk(place | metrics.mean(sums) | {"seconds": seconds})
            if schedule.check_finite:
                raise_if_not_finite(states, epoch + 1, sums)
            if stop < steps:
                save_at(states, sums=sums, seconds=seconds)
            start = stop
        rows: list[Row] = [{"epoch": epoch + 1, **row} for row in metrics.means_of_replicas(sums)]
        if "val" in held_out:
            rows = evaluate("val", states, averaged(states), rows)
            states = update_best(states, [row["val_loss"] for row in rows])
        stopped = all(
            schedule.stops([*histories[i], row]) for i, row in zip(members, rows, strict=True)
        )
        if "test" in held_out and (stopped or len(history) + 1 >= schedule.epochs):
            rows = evaluate("test", states, kept(states), rows)
        for i, row in zip(members, rows, strict=True):
            histories[i].append(row | {"seconds": seconds / replicas})
        stopped |= on_epoch(states, [histories[i][-1] for i in members])
        save_at(states, stopped=stopped)
        if stopped:
            break
        start, sums, seconds = 0, {}, 0.0
    return states


def fit(
    net: Classifier,
    state: TrainState,
    data: Split | Batch | Stream,
    *,
    epochs: int,
    batch_size: int,
    validation: Split | Batch | None = None,
    shuffle: bool = True,
    chunks: int = 20,
    callbacks: Sequence[Callable[[TrainState, Row], bool | None]] = (),
    on_chunk: Callable[[Row], None] | None = None,
    check_finite: bool = True,
    early_stopping: int | None = None,
    save: Save | None = None,
    save_every: int | None = None,
    resume: ResumePoint | None = None,
) -> tuple[TrainState, list[Row]]:
    """Trains for some epochs, as `keras.Model.fit` does, one compiled program for each epoch.

    A second call goes on where the first one ended, with new shuffles: `fit` counts epochs from
    `state.step`. Your `state` stays usable: `fit` donates a copy.

    Args:
      net: from `classifier`.
      state: where to start, such as `net.init(rng, input_shape)`.
      data: the training split, in memory or as a `Stream`.
      epochs: how many epochs to train.
      batch_size: samples per step; the last step of an epoch takes the rest.
      validation: data to evaluate after each epoch, as `val_loss` and so on.
      shuffle: True for a full permutation every epoch, False for the order of the data.
      chunks: the calls that make up an epoch, for progress and Ctrl-C; they never change a bit.
      callbacks: called after each epoch with the state and the epoch's row. One that returns True
        ends the training. A `ResumePoint` does not hold what callbacks remember.
      on_chunk: called after each chunk with `epoch`, `step`, `steps`, and the epoch's means and
        `seconds` so far.
      check_finite: whether a loss or parameter that is not finite raises an error, at most a chunk
        late; False for an optimizer that skips such steps.
      early_stopping: end the training when the validation's loss has not fallen for so many epochs;
        `keep_best` also keeps the net of the best one.
      save: called with the state and its `ResumePoint` after each chunk that passed the check, and
        after each epoch's callbacks.
      save_every: also end a chunk whenever `state.step` is a multiple of this.
      resume: the point at which `state` was saved. `fit` finishes that epoch, and counts all that
        are finished among `epochs`.

    Returns:
      The final state and the whole history. Each epoch's row has `epoch` (from 1), the means over
      its samples while the weights moved, the validation's means, and the `seconds` of training,
      without compilation and validation. If the optimizer keeps an average (`average_weights`), the
      validation's means are those of the average, and `raw_val_loss` and so on of the weights.

    Raises:
      ValueError: if a number is not positive, a label is no class of the net, `early_stopping` or
        `keep_best` lacks a validation, or `resume` is from other data or another batch size.
      TypeError: if `callbacks` is no list.
      FloatingPointError: with `check_finite`, naming the first step whose loss is not finite.

    Example:
      >>> import jaxconv
      >>> net = jaxconv.classifier(jaxconv.create_model("dense"), jaxconv.rmsprop())
      >>> state = net.init(jax.random.key(0), (28, 28, 1))
      >>> data = jaxconv.load_dataset("mnist").train[:256]
      >>> state, history = jaxconv.fit(net, state, data, epochs=3, batch_size=64)
      >>> history[2]["loss"] < history[0]["loss"]
      True

    Source: https://keras.io/api/models/model_training_apis/ (fit)
    """
    schedule = Schedule(
        epochs, batch_size, shuffle, chunks, save_every, check_finite, early_stopping
    )
    check_validation(validation, early_stopping, state)
    check_callbacks(callbacks)
    for samples in (data, validation):
        check_samples(net, state, samples)
    histories = [[] if resume is None else [dict(row) for row in resume.histories[0]]]

    def on_epoch(states: TrainState, rows: list[Row]) -> bool:
        return any([callback(first_state(states), rows[0]) for callback in callbacks])

    with open_epochs(data, net.train_step, batch_size, "map") as source:
        states = train_group(
            net,
            stack_states([state]),
            source,
            schedule,
            histories=histories,
            held_out={} if validation is None else {"val": on_device(validation)},
            on_chunk=on_chunk,
            on_epoch=on_epoch,
            save=None if save is None else lambda states, point: save(first_state(states), point),
            resume=resume,
        )
    return first_state(states), histories[0]
