"""An epoch as one compiled loop of steps, over data on the device."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, Shaped

from jaxconv._checks import check_positive
from jaxconv.data.arrays import Batch
from jaxconv.training.state import TrainState
from jaxconv.training.step import TrainStep

Bound = int | Int[Array, ""]


def train_epoch(
    state: TrainState,
    data: Batch,
    permutation: Int[Array, " samples"],
    start: Bound,
    stop: Bound,
    *,
    train_step: TrainStep,
    batch_size: int,
) -> tuple[TrainState, dict[str, Shaped[Array, " steps"]]]:
    """Takes steps `start` to `stop` of an epoch, in one loop over data on the device; pure.

    The bounds are traced, so that one compiled program serves chunks of any length, resumption in
    mid-epoch and, under `vmap`, replicas. The last, partial batch is a step at its own size.

    Args:
      state: the state before step `start`.
      data: all samples as one batch, such as `Split.batch()`.
      permutation: their order in this epoch, such as `epoch_permutation`.
      start: the first step to take.
      stop: the step to stop before, at most `ceil(samples / batch_size)`.
      train_step: `(state, batch) -> (state, sums)`.
      batch_size: samples per step; a positive number, or ValueError.

    Returns:
      The state before step `stop`, and the sums, one value for each step of the epoch; zeros for
      steps not taken, so that the sums of chunks merge by addition.

    Example:
      >>> import functools, jaxconv
      >>> net = jaxconv.classifier(jaxconv.create_model("dense"), jaxconv.rmsprop())
      >>> state = net.init(jax.random.key(0), (28, 28, 1))
      >>> data = jaxconv.load_dataset("mnist").train[:100].batch()
      >>> epoch = functools.partial(train_epoch, train_step=net.train_step, batch_size=32)
      >>> permutation = jaxconv.epoch_permutation(state.rng, 0, 100)
      >>> state, sums = jax.jit(epoch)(state, data, permutation, 0, 4)
      >>> int(state.step), sums["count"].tolist()
      (4, [32, 32, 32, 4])
    """
    check_positive("batch_size", batch_size)
    full, rest = divmod(permutation.shape[0], batch_size)
    start, stop = jnp.asarray(start, jnp.int32), jnp.asarray(stop, jnp.int32)

    def batch_at(step: int | Array, size: int) -> Batch:
        rows = lax.dynamic_slice_in_dim(permutation, step * batch_size, size)
        return jax.tree.map(lambda x: jnp.asarray(x)[rows], data)

    def take_step(step: int | Array, carry: Any, size: int = batch_size) -> Any:
        state, epoch_sums = carry
        state, sums = train_step(state, batch_at(step, size))
        return state, jax.tree.map(lambda xs, x: xs.at[step].set(x), epoch_sums, sums)

    a_batch = jax.eval_shape(lambda: batch_at(0, rest or batch_size))
    _, sums = jax.eval_shape(train_step, state, a_batch)
    steps = full + (rest > 0)
    carry = state, {name: jnp.zeros((steps, *x.shape), x.dtype) for name, x in sums.items()}
    if full:
        carry = lax.fori_loop(start, jnp.minimum(stop, full), take_step, carry)
    if rest:
        due = (start <= full) & (full < stop)
        carry = lax.cond(due, lambda c: take_step(full, c, rest), lambda c: c, carry)
    return carry
