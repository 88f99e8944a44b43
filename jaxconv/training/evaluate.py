"""Evaluation and prediction: loops over all samples that leave none out."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PyTree, Shaped

from jaxconv._checks import check_positive
from jaxconv.data.arrays import Batch, Split
from jaxconv.training._batches import on_device
from jaxconv.training._stacked import Strategy, each, means_of_replicas, stack_states
from jaxconv.training.metrics import Row
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
      ValueError: if `batch_size` is not positive, or no sample counts.

    Example:
      >>> import jaxconv
      >>> net = jaxconv.classifier(jaxconv.create_model("dense"), jaxconv.rmsprop())
      >>> state = net.init(jax.random.key(0), (28, 28, 1))
      >>> sorted(jaxconv.evaluate(net, state, jaxconv.load_dataset("mnist").test))
      ['accuracy', 'loss']
    """
    check_positive("batch_size", batch_size)
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


@functools.partial(jax.jit, static_argnames=("eval_step", "batch_size", "strategy"))
def _eval_epoch(states, batch, *, eval_step, batch_size, strategy):
    def sums_of(state: TrainState) -> dict[str, Array]:
        return _over_batches(
            lambda part: jax.tree.map(jnp.atleast_1d, eval_step(state, part)), batch, batch_size
        )

    return each(strategy, sums_of, states)


def predict(
    net: Classifier,
    state: TrainState,
    image: Shaped[Array | np.ndarray, "samples *image"],
    *,
    batch_size: int = 200,
) -> Float[Array, "samples classes"]:
    """Computes class probabilities: the softmax of the model's logits.

    Args:
      net: from `classifier`. JAX compiles once for each net, batch size and shape.
      state: the state whose parameters predict.
      image: uint8 or floating-point images, which are scaled as in a step.
      batch_size: samples at a time.

    Returns:
      The probabilities, at least float32; they add up to 1 for each sample.

    Raises:
      ValueError: if `batch_size` is not positive, or there is no image.

    Example:
      >>> import jaxconv
      >>> net = jaxconv.classifier(jaxconv.create_model("dense"), jaxconv.rmsprop())
      >>> state = net.init(jax.random.key(0), (28, 28, 1))
      >>> image = jaxconv.load_dataset("mnist").test.image[:3]
      >>> jaxconv.predict(net, state, image).sum(axis=-1).round(5)
      Array([1., 1., 1.], dtype=float32)
    """
    check_positive("batch_size", batch_size)
    if len(image) == 0:
        raise ValueError(f"There is no image to predict: the shape is {image.shape}.")
    return _predict(state, image, function=net.predict, batch_size=batch_size)


@functools.partial(jax.jit, static_argnames=("function", "batch_size"))
def _predict(state, image, *, function, batch_size):
    return _over_batches(functools.partial(function, state), image, batch_size)


def _over_batches(function: Callable[[Any], PyTree], data: PyTree, batch_size: int) -> PyTree:
    """Applies a function to consecutive batches, the last at its own size; joins the results."""
    full, rest = divmod(len(jax.tree.leaves(data)[0]), batch_size)

    def result_at(step: int | Array, size: int) -> PyTree:
        cut = functools.partial(lax.dynamic_slice_in_dim, start_index=step * batch_size)
        return function(jax.tree.map(lambda x: cut(jnp.asarray(x), slice_size=size), data))

    results = []
    if full:
        looped = lax.map(lambda step: result_at(step, batch_size), jnp.arange(full))
        results.append(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), looped))
    if rest:
        results.append(result_at(full, rest))
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *results)
