"""`fit_seeds` and `evaluate_seeds`: many replicas at once, in groups of one program each."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key, UInt32

from jaxconv._checks import check_callbacks, check_positive
from jaxconv.data.arrays import Batch, Split
from jaxconv.data.stream import Stream
from jaxconv.training._batches import check_samples, on_device
from jaxconv.training._groups import check_keys, choose_strategy, group_of, groups
from jaxconv.training._stacked import (
    Strategy,
    first_state,
    join_states,
    slice_states,
    stack_states,
    sum_steps,
)
from jaxconv.training.best import check_validation
from jaxconv.training.evaluate import evaluate_replicas
from jaxconv.training.fit import train_group
from jaxconv.training.metrics import Row
from jaxconv.training.resume_point import ResumePoint, Save, histories_of
from jaxconv.training.schedule import Schedule
from jaxconv.training.sources import open_epochs
from jaxconv.training.state import TrainState
from jaxconv.training.step import Classifier


def fit_seeds(
    net: Classifier,
    make_state: Callable[[Any], TrainState],
    keys: Sequence[Any] | Key[Array, " replicas"] | UInt32[Array, "replicas 2"],
    data: Split | Batch | Stream,
    *,
    epochs: int,
    batch_size: int,
    validation: Split | Batch | None = None,
    test: Split | Batch | None = None,
    shuffle: bool = True,
    strategy: Strategy | None = None,
    group: int | None = None,
    chunks: int = 20,
    callbacks: Sequence[Callable[[range, TrainState, list[Row]], object]] = (),
    on_chunk: Callable[[Row], None] | None = None,
    check_finite: bool = False,
    early_stopping: int | None = None,
    keep_states: bool = True,
    save: Save | None = None,
    save_every: int | None = None,
    resume: Sequence[tuple[TrainState | None, ResumePoint]] = (),
) -> tuple[TrainState | None, list[list[Row]]]:
    """Trains one replica for each key, as `fit` trains one, in groups of one program each.

    A replica gets the parameters, batches and dropout masks that it gets alone, to the bit. Mapped,
    it also ends in the same bits; vmapped, sums round differently. A replica whose loss is no
    longer finite does not affect the others.

    Args:
      net: from `classifier`.
      make_state: makes the first state of a replica from its key, each in one call, so jit it.
      keys: root keys, or whatever `make_state` takes, one for each replica.
      data: the training split, which all replicas share; a `Stream` trains one.
      epochs: as in `fit`.
      batch_size: as in `fit`.
      validation: as in `fit`.
      test: data to evaluate after the last epoch of each group, as `test_loss` and so on.
      shuffle: as in `fit`, in another order for each replica.
      strategy: `"map"` to run the replicas one after the other, `"vmap"` to run all of them in each
        operation; None for the backend's own.
      group: the most replicas per program, which bounds its memory; None for the backend's own.
      chunks: as in `fit`.
      callbacks: called after each epoch of a group with the indices of its replicas, their stacked
        state and a row for each. One that returns True ends the training of the group.
      on_chunk: as in `fit`, with the means over the group.
      check_finite: as in `fit`, for any replica of a group.
      early_stopping: as in `fit`; each replica then trains in a group of its own.
      keep_states: False to drop each group's state, for any number of replicas.
      save: as in `fit`, with the stacked state of a group; needs `keep_states=False`.
      save_every: as in `fit`.
      resume: the newest saved state of a group and its resume point, or those of several groups;
        needs `keep_states=False`, and the `keys` and `group` of the saved run. `epochs` may have
        grown. Groups before the newest of these points are finished if they are not among them, or
        if they have None in place of a state.

    Returns:
      The final states, stacked (None without `keep_states`), and the history of each replica as in
      `fit`, with an equal share of its group's `seconds`.

    Raises:
      ValueError: as `fit`, and if there is no key, the strategy is unknown or does not go with the
        keys, the states of a group are at different steps, `save` or `resume` comes with
        `keep_states`, or `resume` is from other groups.

    Example:
      >>> import jax, jaxconv
      >>> net = jaxconv.classifier(jaxconv.create_model("dense"), jaxconv.rmsprop())
      >>> make_state = jax.jit(lambda key: net.init(key, (28, 28, 1)))
      >>> data = jaxconv.load_dataset("mnist").train[:256]
      >>> keys = [jax.random.key(seed) for seed in (3, 7, 11)]
      >>> states, histories = fit_seeds(net, make_state, keys, data, epochs=2, batch_size=64)
      >>> states.step.tolist(), [len(history) for history in histories]
      ([8, 8, 8], [2, 2, 2])

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.map.html; training as one function
    of a key, vmapped: https://github.com/luchris429/purejaxrl
    """
    if keep_states and (save is not None or resume):
        raise ValueError("save and resume keep one group's state: pass keep_states=False.")
    if getattr(keys, "shape", None) == () or not len(keys):
        raise ValueError("There is no key: pass one for each replica, such as jax.random.key(0).")
    strategy, group = choose_strategy(strategy, group_of(group, early_stopping))
    schedule = Schedule(
        epochs, batch_size, shuffle, chunks, save_every, check_finite, early_stopping
    )
    check_callbacks(callbacks)
    given = {"val": validation, "test": test}
    held_out = {prefix: on_device(x) for prefix, x in given.items() if x is not None}
    all_groups = groups(len(keys), group)
    starts = {point.members: (states, point) for states, point in resume}
    for members in starts:
        if members not in all_groups:
            raise ValueError(
                f"The resume point is of replicas {members}, which are not a group of {len(keys)} "
                f"in groups such as {all_groups[0]}: resume with the same keys and group."
            )
    begun = max((members.stop for members in starts), default=0)
    histories = histories_of([point for _, point in resume], len(keys))
    done, steps_before, first = [], 0, True
    with open_epochs(data, net.train_step, batch_size, strategy) as source:
        for members in all_groups:
            states, point = starts.get(members, (None, None))
            if states is None and members.start < begun:
                steps_before = steps_before if point is None else point.step
                continue  # it is finished
            if states is None:
                states = _begin(make_state, [keys[i] for i in members])
                check_keys(states.rng, strategy, len(members))
            elif point is not None:
                steps_before = max(steps_before, point.step - sum_steps(states))
            if first:
                one, first = jax.eval_shape(first_state, states), False
                check_validation(validation, early_stopping, one)
                for samples in (data, validation, test):
                    check_samples(net, one, samples)
            states = train_group(
                net,
                states,
                source,
                schedule,
                histories=histories,
                members=members,
                steps_before=steps_before,
                strategy=strategy,
                held_out=held_out,
                on_chunk=on_chunk,
                on_epoch=_calling(callbacks, members),
                save=save,
                resume=point,
            )
            steps_before += sum_steps(states)
            if keep_states:
                done.append(states)
    return (join_states(done) if done else None), histories


def _begin(make_state: Callable[[Any], TrainState], keys: Sequence[Any]) -> TrainState:
    """The first states of a group, stacked."""
    states = stack_states([make_state(key) for key in keys])
    if len(steps := set(states.step.tolist())) > 1:
        raise ValueError(f"Replicas must be at the same step, not at {sorted(steps)}.")
    return states


def _calling(callbacks: Sequence[Callable[..., object]], members: range) -> Callable[..., bool]:
    return lambda states, rows: any([callback(members, states, rows) for callback in callbacks])


def evaluate_seeds(
    net: Classifier,
    states: TrainState,
    data: Split | Batch,
    *,
    batch_size: int = 200,
    strategy: Strategy | None = None,
    group: int | None = None,
) -> list[Row]:
    """Evaluates each replica of a stack, as `evaluate` does one, in groups of one program each.

    Args:
      net: from `classifier`.
      states: stacked, as `fit_seeds` returns them.
      data: as in `evaluate`.
      batch_size: as in `evaluate`, for each replica.
      strategy: as in `fit_seeds`.
      group: as in `fit_seeds`.

    Returns:
      For each replica, the means by name.

    Raises:
      ValueError: as `evaluate`, and if the strategy is unknown or the states are not stacked.

    Example:
      >>> import jax, jaxconv
      >>> net = jaxconv.classifier(jaxconv.create_model("dense"), jaxconv.rmsprop())
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> states = jax.vmap(lambda key: net.init(key, (28, 28, 1)))(keys)
      >>> rows = evaluate_seeds(net, states, jaxconv.load_dataset("mnist").test)
      >>> [sorted(row) for row in rows]
      [['accuracy', 'loss'], ['accuracy', 'loss']]
    """
    check_positive("batch_size", batch_size)
    if np.ndim(states.step) != 1:
        raise ValueError("These states are not stacked: use evaluate for one state.")
    strategy, group = choose_strategy(strategy, group)
    check_samples(net, jax.eval_shape(first_state, states), data)
    batch, rows = on_device(data), []
    for members in groups(len(states.step), group):
        part = slice_states(states, jax.device_put(members.start), size=len(members))
        rows += evaluate_replicas(net, part, batch, batch_size=batch_size, strategy=strategy)
    return rows
