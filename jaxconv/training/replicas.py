"""Many replicas at once: the functions of a single run, mapped or vmapped over a stack of states.

Nothing is trained in another way here: `train_epoch`, `eval_epoch` and `epoch_permutation` run as
they are, on states that have one axis more, the replicas.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, Key, PyTree, Shaped, UInt32

from jaxconv._checks import check_choice, check_positive
from jaxconv.data.arrays import Batch, Split
from jaxconv.training import metrics
from jaxconv.training.epoch import run_epochs
from jaxconv.training.evaluate import Row, eval_epoch, on_device
from jaxconv.training.fit import Save
from jaxconv.training.keys import epoch_permutation
from jaxconv.training.state import ResumePoint, TrainState
from jaxconv.training.step import EvalStep

Strategy = Literal["map", "vmap"]
TrainEpoch = Callable[..., tuple[TrainState, dict[str, Array]]]

STRATEGIES: dict[str, tuple[Strategy, int]] = {"cpu": ("map", 5)}
"""By backend: how replicas run, and how many a program at most (experiments/results/seeds.md)."""
UNMEASURED: tuple[Strategy, int] = ("vmap", 32)


def fit_seeds(
    make_state: Callable[[Any], TrainState],
    train_epoch: TrainEpoch,
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
    """Trains a replica for each key, as `fit` trains one, in groups of one program each.

    A replica sees the parameters, batches and dropout masks that it would see alone, to the bit.
    Mapped, it also ends in the same parameters to the bit; vmapped, sums are rounded otherwise. A
    replica whose loss is no longer finite harms no other.

    Args:
      make_state: makes a replica's first state from its key; jit it, it is called for each.
      train_epoch: `(state, data, permutation, start, stop) -> (state, sums)`, such as a
        `functools.partial` of `jaxconv.train_epoch`.
      keys: one for each replica: root keys, or whatever `make_state` takes, so that a replica may
        differ in more than its seed.
      data: the training split, which all replicas share.
      epochs: how many epochs to train.
      validation: evaluated after each epoch, as `val_loss` and so on.
      test: evaluated after the last epoch of each group, as `test_loss` and so on of that row.
      eval_step: as `make_eval_step` makes it; needed for `validation` and `test`.
      shuffle: a full permutation every epoch, each replica its own; otherwise the data's order.
      strategy: `"map"`, one replica after the other, or `"vmap"`, all of them in each operation;
        the backend's own when None.
      group: the most replicas a program, which bounds its memory; the backend's own when None.
      chunks: into how many calls an epoch is cut.
      callbacks: called after each epoch of a group with the places of its replicas among the keys,
        their stacked state and a row for each. What they return is ignored; the state's buffers are
        reused after that.
      on_chunk: as in `fit`, with the means over the group.
      keep_states: False lets go of each group's state, so that memory does not grow with the number
        of replicas.
      save: as in `fit`, with the stacked state of a group; needs `keep_states=False`.
      save_every: as in `fit`.
      resume: a saved state of a group and its position; the same keys, `epochs` and `group` as
        then, and `keep_states=False`.

    Returns:
      The final states, stacked (None without `keep_states`), and the history of each replica: rows
      as `fit` has them, where `seconds` is an equal share of the group's.

    Raises:
      ValueError: if there is no key, a number is not positive, the strategy is unknown, the states
        of a group stand at different steps, `validation` or `test` comes without `eval_step`, or
        `save` or `resume` with `keep_states`.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> new = lambda key: jaxconv.create_train_state(model, tx, key, (28, 28, 1))
      >>> step = jaxconv.make_train_step(model, tx)
      >>> epoch = functools.partial(jaxconv.train_epoch, train_step=step, batch_size=64)
      >>> data = jax.tree.map(lambda x: x[:256], jaxconv.load_dataset("mnist").train.batch())
      >>> keys = [jax.random.key(seed) for seed in (3, 7, 11)]
      >>> states, histories = fit_seeds(jax.jit(new), epoch, keys, data, epochs=2)
      >>> states.step.tolist(), [len(history) for history in histories]
      ([8, 8, 8], [2, 2, 2])

    Source: https://docs.jax.dev/en/latest/_autosummary/jax.lax.map.html; training as one function
    of a key, vmapped: https://github.com/luchris429/purejaxrl
    """
    check_positive("epochs", epochs)
    check_positive("chunks", chunks)
    for name, split in (("validation", validation), ("test", test)):
        if split is not None and eval_step is None:
            raise ValueError(f"{name} needs an eval_step: make_eval_step(model, loss=...).")
    if keep_states and (save is not None or resume is not None):
        raise ValueError("save and resume know one group's state: pass keep_states=False.")
    if save_every is not None:
        check_positive("save_every", save_every)
    strategy, group = choose_strategy(strategy, group)
    if getattr(keys, "shape", None) == () or not len(keys):
        raise ValueError("There is no key: pass one for each replica, such as jax.random.key(0).")
    batch = on_device(data)
    held_out = {
        name: on_device(split)
        for name, split in (("val", validation), ("test", test))
        if split is not None
    }
    samples = len(jax.tree.leaves(batch)[0])
    run = functools.partial(_compiled_epochs, train_epoch=train_epoch, strategy=strategy)

    def order_of(rngs: Array, epoch: int) -> Array | np.ndarray:
        if shuffle:
            return _compiled_permutations(rngs, epoch, samples=samples)
        return np.tile(np.arange(samples, dtype=np.int32), (len(rngs), 1))

    done: list[TrainState] = []
    histories: list[list[Row]] = [[] for _ in keys]
    members, taken = range(0), 0

    def position(state: TrainState, **under_way: Any) -> ResumePoint:
        steps = taken + int(np.sum(jax.device_get(state.step)))
        return ResumePoint(steps, members, [list(rows) for rows in histories], **under_way)

    def after_chunk(
        state: TrainState, epoch: int, sums: Mapping[str, np.ndarray], seconds: float, *, last: bool
    ) -> None:
        if save is not None and not last:
            save(state, position(state, sums=sums, seconds=seconds))

    if resume is not None:
        if resume[1].members not in groups(len(keys), group):
            raise ValueError(
                f"The position to resume is of replicas {resume[1].members}, which are no group "
                f"of {len(keys)} in groups of {group}: resume with the same keys and group."
            )
        histories = [[dict(row) for row in rows] for rows in resume[1].histories]
    for members in groups(len(keys), group):
        under_way = None
        if resume is not None and members == resume[1].members:
            state, under_way = resume
            taken = under_way.step - int(np.sum(jax.device_get(state.step)))
        elif resume is not None and members.start < resume[1].members.start:
            continue
        else:
            state = stack_states([make_state(keys[i]) for i in members])
        steps = sorted(set(state.step.tolist()))
        if len(steps) > 1:
            raise ValueError(f"Replicas must stand at the same step, not at {steps}.")
        ends = run_epochs(
            state,
            batch,
            run,
            order_of,
            epochs=epochs - len(histories[members.start]),
            chunks=chunks,
            on_chunk=on_chunk,
            after_chunk=after_chunk,
            save_every=save_every,
            resume=under_way,
        )
        for epoch, state, sums, seconds in ends:
            rows: list[Row] = [{"epoch": epoch, **means} for means in _means(sums)]
            final = len(histories[members.start]) + 1 == epochs
            for kind, split in held_out.items():
                if eval_step is None or (kind == "test" and not final):
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
                save(state, position(state))
        taken += int(np.sum(jax.device_get(state.step)))
        if keep_states:
            done.append(state)
    return (_join(done) if done else None), histories


def train_epoch_replicas(
    states: TrainState,
    data: Batch,
    permutations: Int[Array, "replicas samples"],
    start: int | Int[Array, ""],
    stop: int | Int[Array, ""],
    *,
    train_epoch: TrainEpoch,
    strategy: Strategy,
) -> tuple[TrainState, dict[str, Shaped[Array, "replicas steps"]]]:
    """Steps `start` to `stop` of an epoch for every replica of a stack; pure, as `train_epoch` is.

    Args:
      states: the stacked states before step `start`.
      data: all samples, which the replicas share.
      permutations: their order for each replica.
      start: the first step to take.
      stop: the step to stop before.
      train_epoch: as in `fit_seeds`.
      strategy: `"map"` or `"vmap"`.

    Returns:
      What `train_epoch` returns, stacked.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> new = lambda key: jaxconv.create_train_state(model, tx, key, (28, 28, 1))
      >>> states = jax.vmap(new)(jax.random.split(jax.random.key(0), 2))
      >>> data = jax.tree.map(lambda x: x[:64], jaxconv.load_dataset("mnist").train.batch())
      >>> step = jaxconv.make_train_step(model, tx)
      >>> epoch = functools.partial(jaxconv.train_epoch, train_step=step, batch_size=32)
      >>> orders = jnp.stack([jnp.arange(64), jnp.arange(64)[::-1]])
      >>> run = functools.partial(train_epoch_replicas, train_epoch=epoch, strategy="map")
      >>> jax.jit(run)(states, data, orders, 0, 2)[1]["count"].tolist()
      [[32, 32], [32, 32]]
    """

    def one(replica: tuple[TrainState, Array]) -> tuple[TrainState, dict[str, Array]]:
        state, permutation = replica
        return train_epoch(state, data, permutation, start, stop)

    return _each(strategy, one, (states, permutations))


def evaluate_seeds(
    states: TrainState,
    data: Split | Batch,
    *,
    eval_step: EvalStep,
    batch_size: int = 200,
    strategy: Strategy | None = None,
    group: int | None = None,
) -> list[Row]:
    """What `evaluate` gives for each replica of a stack, in groups of one program each.

    Args:
      states: stacked, as `fit_seeds` returns them.
      data: a `Split`, or a batch that holds it all.
      eval_step: as `make_eval_step` makes it.
      batch_size: samples at a time, of each replica.
      strategy: as in `fit_seeds`.
      group: as in `fit_seeds`.

    Raises:
      ValueError: if a number is not positive, the strategy is unknown, the states are not stacked
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
        part = _slice(states, members.start, size=len(members))
        sums = _compiled_eval_epochs(
            part, batch, eval_step=eval_step, batch_size=batch_size, strategy=strategy
        )
        rows += _means(jax.device_get(sums))
    return rows


def choose_strategy(strategy: Strategy | None, group: int | None) -> tuple[Strategy, int]:
    """The strategy and the largest group given, or the backend's own for what is None.

    Raises:
      ValueError: for an unknown strategy, or a group that is not positive.

    Example:
      >>> choose_strategy("vmap", 8)
      ('vmap', 8)
    """
    own, most = STRATEGIES.get(jax.default_backend(), UNMEASURED)
    if strategy is not None:
        check_choice("strategy", strategy, ("map", "vmap"))
    if group is not None:
        check_positive("group", group)
    return strategy or own, group or most


@jax.jit
def stack_states(states: Sequence[TrainState]) -> TrainState:
    """States with one axis more, the replicas."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def groups(count: int, most: int) -> list[range]:
    """Divides replicas into as few groups as possible, whose sizes differ by one at most.

    Equal groups share a compiled program.

    Example:
      >>> groups(5, 2)
      [range(0, 2), range(2, 4), range(4, 5)]
    """
    number = -(-count // most)
    size, larger = divmod(count, number)
    starts = [i * size + min(i, larger) for i in range(number + 1)]
    return [range(*pair) for pair in itertools.pairwise(starts)]


def _each(strategy: Strategy, function: Callable[[Any], Any], stack: PyTree) -> PyTree:
    return jax.vmap(function)(stack) if strategy == "vmap" else lax.map(function, stack)


_compiled_epochs = jax.jit(
    train_epoch_replicas, static_argnames=("train_epoch", "strategy"), donate_argnames="states"
)


@functools.partial(jax.jit, static_argnames=("eval_step", "batch_size", "strategy"))
def _compiled_eval_epochs(states, data, *, eval_step, batch_size, strategy):
    one = functools.partial(eval_epoch, data=data, eval_step=eval_step, batch_size=batch_size)
    return _each(strategy, one, states)


@functools.partial(jax.jit, static_argnames="samples")
def _compiled_permutations(rngs, epoch, *, samples):
    return jax.vmap(lambda rng: epoch_permutation(rng, epoch, samples))(rngs)


@functools.partial(jax.jit, static_argnames="size")
def _slice(stack, start, *, size):
    return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size), stack)


@jax.jit
def _join(stacks):
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *stacks)


def _means(sums: Mapping[str, np.ndarray]) -> list[Row]:
    """The mean of each replica, from stacked sums."""
    return [
        metrics.mean({name: rows[i] for name, rows in sums.items()})
        for i in range(len(sums["count"]))
    ]
