"""The functions of a single run, mapped or vmapped over a stack of states, one for each replica."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, PyTree, Shaped

from jaxconv.data.arrays import Batch
from jaxconv.training import metrics
from jaxconv.training._groups import Strategy
from jaxconv.training.epoch import EpochFn
from jaxconv.training.evaluate import eval_epoch
from jaxconv.training.keys import epoch_permutation
from jaxconv.training.metrics import Row
from jaxconv.training.state import TrainState


def train_epoch_replicas(
    states: TrainState,
    data: Batch,
    permutations: Int[Array, "replicas samples"],
    start: int | Int[Array, ""],
    stop: int | Int[Array, ""],
    *,
    epoch_fn: EpochFn,
    strategy: Strategy,
) -> tuple[TrainState, dict[str, Shaped[Array, "replicas steps"]]]:
    """Takes steps `start` to `stop` of an epoch for every replica of a stack; pure.

    Args:
      states: the stacked states before step `start`.
      data: all samples, which the replicas share.
      permutations: the order of the samples for each replica.
      start: the first step to take.
      stop: the step to stop before.
      epoch_fn: as in `fit_seeds`.
      strategy: `"map"` or `"vmap"`.

    Returns:
      The stacked states before step `stop`, and the sums.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> make_state = lambda key: jaxconv.create_train_state(model, tx, key, (28, 28, 1))
      >>> states = jax.vmap(make_state)(jax.random.split(jax.random.key(0), 2))
      >>> data = jax.tree.map(lambda x: x[:64], jaxconv.load_dataset("mnist").train.batch())
      >>> train_step = jaxconv.make_train_step(model, tx)
      >>> epoch_fn = functools.partial(jaxconv.train_epoch, train_step=train_step, batch_size=32)
      >>> permutations = jnp.stack([jnp.arange(64), jnp.arange(64)[::-1]])
      >>> run = functools.partial(train_epoch_replicas, epoch_fn=epoch_fn, strategy="map")
      >>> jax.jit(run)(states, data, permutations, 0, 2)[1]["count"].tolist()
      [[32, 32], [32, 32]]
    """

    def one(replica: tuple[TrainState, Array]) -> tuple[TrainState, dict[str, Array]]:
        state, permutation = replica
        return epoch_fn(state, data, permutation, start, stop)

    return _each(strategy, one, (states, permutations))


jitted_train_epoch_replicas = jax.jit(
    train_epoch_replicas, static_argnames=("epoch_fn", "strategy"), donate_argnames="states"
)


@functools.partial(jax.jit, static_argnames=("eval_step", "batch_size", "strategy"))
def jitted_eval_epoch_replicas(states, data, *, eval_step, batch_size, strategy):
    """`eval_epoch` for every replica of a stack."""
    one = functools.partial(eval_epoch, data=data, eval_step=eval_step, batch_size=batch_size)
    return _each(strategy, one, states)


@functools.partial(jax.jit, static_argnames="samples")
def jitted_epoch_permutations(rngs, epoch, *, samples):
    """`epoch_permutation` for a stack of root keys."""
    return jax.vmap(lambda rng: epoch_permutation(rng, epoch, samples))(rngs)


def _each(strategy: Strategy, function: Callable[[Any], Any], stack: PyTree) -> PyTree:
    return jax.vmap(function)(stack) if strategy == "vmap" else lax.map(function, stack)


def means_of_replicas(sums: Mapping[str, np.ndarray]) -> list[Row]:
    """The means of each replica, from stacked sums on the host."""
    return [
        metrics.mean({name: x[i] for name, x in sums.items()}) for i in range(len(sums["count"]))
    ]


@jax.jit
def stack_states(states: Sequence[TrainState]) -> TrainState:
    """Stacks states along a new first axis, the replicas."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


@functools.partial(jax.jit, static_argnames="size")
def slice_states(states, start, *, size):
    """The replicas `start` to `start + size` of a stack."""
    return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size), states)


@jax.jit
def join_states(stacks):
    """Joins stacks of replicas into one."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *stacks)
