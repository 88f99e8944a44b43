"""`fit_seeds` and `evaluate_seeds`: many replicas at once, in groups of one program each.

They map or vmap `train_epoch`, `eval_epoch` and `epoch_permutation`, the functions of a single run,
over a stack of states. There is no second way to train.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key, UInt32

from jaxconv._checks import check_positive
from jaxconv.data.arrays import Batch, Split
from jaxconv.training import _stacked
from jaxconv.training._batches import on_device
from jaxconv.training._groups import Strategy, choose_strategy, groups
from jaxconv.training.epoch import EpochFn, run_epochs
from jaxconv.training.fit import Save
from jaxconv.training.metrics import Row
from jaxconv.training.state import ResumePoint, TrainState
from jaxconv.training.step import EvalStep


def fit_seeds(
    make_state: Callable[[Any], TrainState],
    epoch_fn: EpochFn,
    keys: Sequence[Any] | Key[Array, " replicas"] | UInt32[Array, "replicas 2"],
    data: Split | Batch,
    *,
    epochs: int,
    validation: Split | Batch | None = None,
    test: Split | Batch | None = None,
    eval_step: EvalStep | None = None,
    shuffle: bool = True,
    strategy: Strategy | None = None,
    group: int | None = None,
    chunks: int = 20,
    callbacks: Sequence[Callable[[range, TrainState, list[Row]], object]] = (),
    on_chunk: Callable[[Row], None] | None = None,
    keep_states: bool = True,
    save: Save | None = None,
    save_every: int | None = None,
    resume: tuple[TrainState, ResumePoint] | None = None,
) -> tuple[TrainState | None, list[list[Row]]]:
    """Trains one replica for each key, as `fit` trains one, in groups of one program each.

    A replica gets the same parameters, batches and dropout masks as alone, to the bit. Mapped, it
    also ends in the same parameters to the bit; vmapped, sums round differently. A replica whose
    loss is no longer finite does not affect the others.

    Args:
      make_state: makes the first state of a replica from its key. It is called once for each key,
        so jit it.
      epoch_fn: `(state, data, permutation, start, stop) -> (state, sums)`, such as a
        `functools.partial` of `jaxconv.train_epoch`.
      keys: one for each replica: root keys, or whatever `make_state` takes, so that replicas may
        differ in more than the seed.
      data: the training split, which all replicas share.
      epochs: how many epochs to train.
      validation: data to evaluate after each epoch, as `val_loss` and so on.
      test: data to evaluate after the last epoch of each group, as `test_loss` and so on.
      eval_step: needed for `validation` and `test`.
      shuffle: True for a full permutation every epoch, different in each replica.
      strategy: `"map"` to run the replicas one after the other, `"vmap"` to run all of them in each
        operation; None for the backend's own.
      group: the most replicas per program, which bounds its memory; None for the backend's own.
      chunks: as in `fit`.
      callbacks: called after each epoch of a group with the indices of its replicas, their stacked
        state and a row for each. `fit_seeds` ignores what they return.
      on_chunk: as in `fit`, with the means over the group.
      keep_states: False to drop each group's state, so that the memory does not grow with the
        number of replicas.
      save: as in `fit`, with the stacked state of a group; needs `keep_states=False`.
      save_every: as in `fit`.
      resume: the saved state of a group and its resume point; needs `keep_states=False`, and the
        `keys`, `epochs` and `group` of the saved run.

    Returns:
      The final states, stacked (None without `keep_states`), and the history of each replica, with
      rows as in `fit`; each replica has an equal share of the group's `seconds`.

    Raises:
      ValueError: if there is no key, a number is not positive, the strategy is unknown, the states
        of a group are at different steps, `validation` or `test` comes without `eval_step`, `save`
        or `resume` comes with `keep_states`, or `resume` is from other groups.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> make_state = lambda key: jaxconv.create_train_state(model, tx, key, (28, 28, 1))
      >>> train_step = jaxconv.make_train_step(model, tx)
      >>> epoch_fn = functools.partial(jaxconv.train_epoch, train_step=train_step, batch_size=64)
      >>> data = jax.tree.map(lambda x: x[:256], jaxconv.load_dataset("mnist").train.batch())
      >>> keys = [jax.random.key(seed) for seed in (3, 7, 11)]
      >>> states, histories = fit_seeds(jax.jit(make_state), epoch_fn, keys, data, epochs=2)
      >>> states.step.tolist(), [len(history) for history in histories]
      ([8, 8, 8], [2, 2, 2])

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.map.html; training as one function
    of a key, vmapped: https://github.com/luchris429/purejaxrl
    """
    check_positive("epochs", epochs)
    check_positive("chunks", chunks)
    for name, split in {"validation": validation, "test": test}.items():
        if split is not None and eval_step is None:
            raise ValueError(f"{name} needs an eval_step: make_eval_step(model, loss=...).")
    if keep_states and (save is not None or resume is not None):
        raise ValueError("save and resume keep one group's state: pass keep_states=False.")
    if save_every is not None:
        check_positive("save_every", save_every)
    strategy, group = choose_strategy(strategy, group)
    if getattr(keys, "shape", None) == () or not len(keys):
        raise ValueError("There is no key: pass one for each replica, such as jax.random.key(0).")
    batch = on_device(data)
    held_out = {
        name: on_device(split)
        for name, split in {"val": validation, "test": test}.items()
        if split is not None
    }
    samples = len(jax.tree.leaves(batch)[0])
    replicas_fn = functools.partial(
        _stacked.jitted_train_epoch_replicas, epoch_fn=epoch_fn, strategy=strategy
    )

    def order_fn(rngs: Array, epoch: int) -> Array | np.ndarray:
        if shuffle:
            return _stacked.jitted_epoch_permutations(rngs, epoch, samples=samples)
        return np.tile(np.arange(samples, dtype=np.int32), (len(rngs), 1))

    done: list[TrainState] = []
    histories: list[list[Row]] = [[] for _ in keys]
    members, steps_before = range(0), 0

    def resume_point(state: TrainState, **current: Any) -> ResumePoint:
        steps = steps_before + int(np.sum(jax.device_get(state.step)))
        return ResumePoint(steps, members, [list(rows) for rows in histories], **current)

    def after_chunk(
        state: TrainState, epoch: int, sums: Mapping[str, np.ndarray], seconds: float, *, last: bool
    ) -> None:
        if save is not None and not last:
            save(state, resume_point(state, sums=sums, seconds=seconds))

    if resume is not None:
        if resume[1].members not in groups(len(keys), group):
            raise ValueError(
                f"The resume point is of replicas {resume[1].members}, which are not a "
                f"group of {len(keys)} in groups of {group}: resume with the same keys and group."
            )
        histories = [[dict(row) for row in rows] for rows in resume[1].histories]
    for members in groups(len(keys), group):
        in_progress = None
        if resume is not None and members == resume[1].members:
            state, in_progress = resume
            steps_before = in_progress.step - int(np.sum(jax.device_get(state.step)))
        elif resume is not None and members.start < resume[1].members.start:
            continue
        else:
            state = _stacked.stack_states([make_state(keys[i]) for i in members])
        steps = sorted(set(state.step.tolist()))
        if len(steps) > 1:
            raise ValueError(f"Replicas must be at the same step, not at {steps}.")
        finished_epochs = run_epochs(
            state,
            batch,
            replicas_fn,
            order_fn,
            epochs=epochs - len(histories[members.start]),
            chunks=chunks,
            on_chunk=on_chunk,
            after_chunk=after_chunk,
            save_every=save_every,
            resume=in_progress,
        )
        for epoch, state, sums, seconds in finished_epochs:
            rows = [Row(epoch=epoch, **means) for means in _stacked.means_of_replicas(sums)]
            last_epoch = len(histories[members.start]) + 1 == epochs
            for kind, split in held_out.items():
                if eval_step is None or (kind == "test" and not last_epoch):
                    continue
                means = evaluate_seeds(
                    state, split, eval_step=eval_step, strategy=strategy, group=len(members)
                )
                for row, mean in zip(rows, means, strict=True):
                    row |= {f"{kind}_{name}": value for name, value in mean.items()}
            for i, row in zip(members, rows, strict=True):
                row["seconds"] = seconds / len(members)
                histories[i].append(row)
            for callback in callbacks:
                callback(members, state, rows)
            if save is not None:
                save(state, resume_point(state))
        steps_before += int(np.sum(jax.device_get(state.step)))
        if keep_states:
            done.append(state)
    return (_stacked.join_states(done) if done else None), histories


def evaluate_seeds(
    states: TrainState,
    data: Split | Batch,
    *,
    eval_step: EvalStep,
    batch_size: int = 200,
    strategy: Strategy | None = None,
    group: int | None = None,
) -> list[Row]:
    """Evaluates each replica of a stack, as `evaluate` does one, in groups of one program each.

    Args:
      states: stacked, as `fit_seeds` returns them.
      data: as in `evaluate`.
      eval_step: as in `evaluate`.
      batch_size: samples at a time, for each replica.
      strategy: as in `fit_seeds`.
      group: as in `fit_seeds`.

    Returns:
      For each replica, the means by name.

    Raises:
      ValueError: if a number is not positive, the strategy is unknown, the states are not stacked,
        or no sample counts.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> make_state = lambda key: jaxconv.create_train_state(model, tx, key, (28, 28, 1))
      >>> states = jax.vmap(make_state)(jax.random.split(jax.random.key(0), 2))
      >>> test = jaxconv.load_dataset("mnist").test
      >>> rows = evaluate_seeds(states, test, eval_step=jaxconv.make_eval_step(model))
      >>> [sorted(row) for row in rows]
      [['accuracy', 'loss'], ['accuracy', 'loss']]
    """
    check_positive("batch_size", batch_size)
    if np.ndim(states.step) != 1:
        raise ValueError("These states are not stacked: use evaluate for one state.")
    strategy, group = choose_strategy(strategy, group)
    batch, rows = on_device(data), []
    for members in groups(len(states.step), group):
        part = _stacked.slice_states(states, members.start, size=len(members))
        sums = _stacked.jitted_eval_epoch_replicas(
            part, batch, eval_step=eval_step, batch_size=batch_size, strategy=strategy
        )
        rows += _stacked.means_of_replicas(jax.device_get(sums))
    return rows
