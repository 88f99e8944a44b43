"""Functions of one state, mapped or vmapped over a stack of states, one for each replica."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, PyTree

from jaxconv.training.keys import epoch_permutation
from jaxconv.training.state import TrainState

Strategy = Literal["map", "vmap"]
Orders = Int[Array, "replicas samples"] | Int[np.ndarray, "replicas samples"]


def each(strategy: Strategy, function: Callable[[Any], Any], stack: PyTree) -> PyTree:
    """Applies a function to every replica of a stack; a single one needs no loop."""
    if len(jax.tree.leaves(stack)[0]) == 1:
        alone = function(jax.tree.map(lambda x: x[0], stack))
        return jax.tree.map(lambda x: x[None], alone)
    return jax.vmap(function)(stack) if strategy == "vmap" else lax.map(function, stack)


@functools.partial(jax.jit, static_argnames=("samples", "strategy"))
def epoch_permutations(rngs, epoch, *, samples, strategy):
    """`epoch_permutation` for a stack of root keys."""
    return each(strategy, lambda rng: epoch_permutation(rng, epoch, samples), rngs)


def epoch_orders(
    rngs: Array, epoch: int, samples: int, shuffle: bool, strategy: Strategy
) -> Orders:
    """The order of the samples in an epoch for each root key: shuffled, or that of the data."""
    if shuffle:
        epoch = jax.device_put(epoch)
        return epoch_permutations(rngs, epoch, samples=samples, strategy=strategy)
    # NumPy: JAX puts it wherever the states are.
    return np.tile(np.arange(samples, dtype=np.int32), (len(rngs), 1))


@jax.jit
def stack_states(states: Sequence[TrainState]) -> TrainState:
    """Stacks states along a new first axis, the replicas."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


@jax.jit
def first_state(states):
    """The first replica of a stack."""
    return jax.tree.map(lambda x: x[0], states)


def sum_steps(states: TrainState) -> int:
    """The steps of all replicas of a stack, added up."""
    return int(np.sum(jax.device_get(states.step)))


@functools.partial(jax.jit, static_argnames="size")
def slice_states(states, start, *, size):
    """The replicas `start` to `start + size` of a stack."""
    return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size), states)


@jax.jit
def join_states(stacks):
    """Joins stacks of replicas into one."""
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *stacks)
