"""Evaluation: the means over all samples of a split, for one state or for many replicas."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxconv._checks import check_positive
from jaxconv.data.arrays import Batch, Split
from jaxconv.training._batches import check_samples, on_device, over_batches
from jaxconv.training._stacked import Strategy, each, stack_states
from jaxconv.training.metrics import Row, means_of_replicas
from jaxconv.training.state import TrainState
from jaxconv.training.step import Classifier


def evaluate(
    net: Classifier, state: TrainState, data: Split | Batch, *, batch_size: int = 200
) -> Row:
    """Computes the mean loss and metrics of a split, every sample once, the last batch as it is.

    Args:
      net: from `classifier`. JAX compiles once for each net, batch size and shape of data.
      state: the state whose parameters to evaluate.
      data: a `Split`, or a batch that holds all of it.
      batch_size: samples at a time; it changes the result by no more than rounding.

    Returns:
      The means by name, such as `loss` and `accuracy`.

    Raises:
      ValueError: if `batch_size` is not positive, a label is no class of the net, or no sample
        counts.

    Example:
      >>> import jaxconv
      >>> net = jaxconv.classifier(jaxconv.create_model("dense"), jaxconv.rmsprop())
      >>> state = net.init(jax.random.key(0), (28, 28, 1))
      >>> sorted(jaxconv.evaluate(net, state, jaxconv.load_dataset("mnist").test))
      ['accuracy', 'loss']
    """
    check_positive("batch_size", batch_size)
    check_samples(net, state, data)
    states = stack_states([state])
    return evaluate_replicas(net, states, on_device(data), batch_size=batch_size)[0]


def evaluate_replicas(
    net: Classifier,
    states: TrainState,
    batch: Batch,
    *,
    batch_size: int = 200,
    strategy: Strategy = "map",
) -> list[Row]:
    """The means of each replica of a stack, in one program, over a batch on the device."""
    more: Any = {"eval_step": net.eval_step, "batch_size": batch_size, "strategy": strategy}
    return means_of_replicas(jax.device_get(_eval_epoch(states, batch, **more)))


def evaluate_beside(
    net: Classifier,
    held_out: Mapping[str, Batch],
    strategy: Strategy,
    prefix: str,
    states: TrainState,
    shown: TrainState,
    rows: Sequence[Row],
) -> list[Row]:
    """Adds to the rows the means of the nets `shown`; if `states` are others, theirs as `raw_`."""
    nets = {prefix: shown} | ({} if shown is states else {f"raw_{prefix}": states})
    for kind, own in nets.items():
        found = evaluate_replicas(net, own, held_out[prefix], strategy=strategy)
        means = [{f"{kind}_{name}": x for name, x in of_one.items()} for of_one in found]
        rows = [row | more for row, more in zip(rows, means, strict=True)]
    return list(rows)


@functools.partial(jax.jit, static_argnames=("eval_step", "batch_size", "strategy"))
def _eval_epoch(states, batch, *, eval_step, batch_size, strategy):
    def sums_of(state: TrainState, part: Batch) -> dict[str, Array]:
        return jax.tree.map(jnp.atleast_1d, eval_step(state, part))

    def one(state: TrainState) -> dict[str, Array]:
        return over_batches(functools.partial(sums_of, state), batch, batch_size)

    return each(strategy, one, states)
