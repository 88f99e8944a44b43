"""Evaluation and prediction: loops over all samples that leave none out."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, PyTree, Shaped

from jaxconv._checks import check_positive
from jaxconv.data.arrays import Batch, Split
from jaxconv.training import metrics
from jaxconv.training._batches import as_batch
from jaxconv.training.metrics import Row
from jaxconv.training.state import TrainState
from jaxconv.training.step import EvalStep, eval_logits


def evaluate(
    state: TrainState, data: Split | Batch, *, eval_step: EvalStep, batch_size: int = 200
) -> Row:
    """Computes the mean loss and metrics of a split, every sample once.

    The last batch has its own size. JAX compiles once for each `eval_step`, batch size and shape of
    data.

    Args:
      state: the state whose parameters to evaluate.
      data: a `Split`, or a batch that holds all of it.
      eval_step: from `make_eval_step`.
      batch_size: samples at a time. It bounds the memory, and changes the result by no more than
        rounding.

    Returns:
      The means by name, such as `loss` and `accuracy`.

    Raises:
      ValueError: if `batch_size` is not positive, or no sample counts.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> test = jaxconv.load_dataset("mnist").test
      >>> sorted(jaxconv.evaluate(state, test, eval_step=jaxconv.make_eval_step(model)))
      ['accuracy', 'loss']
    """
    check_positive("batch_size", batch_size)
    sums = _jitted_eval_epoch(state, as_batch(data), eval_step=eval_step, batch_size=batch_size)
    return metrics.mean(jax.device_get(sums))


def eval_epoch(
    state: TrainState, data: Batch, *, eval_step: EvalStep, batch_size: int
) -> dict[str, Shaped[Array, " batches"]]:
    """Takes the evaluation step for each batch of the data, in one loop; pure.

    Args:
      state: as in `evaluate`.
      data: the batch of all samples.
      eval_step: as in `evaluate`.
      batch_size: as in `evaluate`.

    Returns:
      The sums, one value for each batch, in order.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> data = jax.tree.map(lambda x: x[:100], jaxconv.load_dataset("mnist").test.batch())
      >>> eval_step = jaxconv.make_eval_step(model)
      >>> eval_epoch(state, data, eval_step=eval_step, batch_size=32)["count"].tolist()
      [32, 32, 32, 4]
    """

    def sums_of(batch: Batch) -> dict[str, Array]:
        return jax.tree.map(jnp.atleast_1d, eval_step(state, batch))

    return _over_batches(sums_of, data, batch_size)


def predict(
    state: TrainState,
    image: Shaped[Array | np.ndarray, "samples *image"],
    *,
    model: nn.Module,
    batch_size: int = 200,
) -> Float[Array, "samples classes"]:
    """Computes class probabilities: the softmax of the model's logits.

    Args:
      state: the state whose parameters predict.
      image: uint8 or floating-point images, which are scaled as in a step.
      model: the Linen classifier. JAX compiles once for each model, batch size and shape.
      batch_size: samples at a time.

    Returns:
      The probabilities, at least float32; they add up to 1 for each sample.

    Raises:
      ValueError: if `batch_size` is not positive, or there is no image.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> image = jaxconv.load_dataset("mnist").test.image[:3]
      >>> jaxconv.predict(state, image, model=model).sum(axis=-1).round(5)
      Array([1., 1., 1.], dtype=float32)
    """
    check_positive("batch_size", batch_size)
    if len(image) == 0:
        raise ValueError(f"There is no image to predict: the shape is {image.shape}.")
    return _predict(state, image, model=model, batch_size=batch_size)


_jitted_eval_epoch = jax.jit(eval_epoch, static_argnames=("eval_step", "batch_size"))


@functools.partial(jax.jit, static_argnames=("model", "batch_size"))
def _predict(state, image, *, model, batch_size):
    def probabilities(image):
        logits = eval_logits(model, state, image)
        return nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))

    return _over_batches(probabilities, image, batch_size)


def _over_batches(function: Callable[[Any], PyTree], data: PyTree, batch_size: int) -> PyTree:
    """Applies a function to consecutive batches in one loop, and joins its results.

    The last batch has its own size, so that no sample is left out.
    """
    full, rest = divmod(len(jax.tree.leaves(data)[0]), batch_size)

    def result_at(step: int | Array, size: int) -> PyTree:
        return function(
            jax.tree.map(
                lambda x: lax.dynamic_slice_in_dim(jnp.asarray(x), step * batch_size, size), data
            )
        )

    results = []
    if full:
        looped = lax.map(lambda step: result_at(step, batch_size), jnp.arange(full))
        results.append(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), looped))
    if rest:
        results.append(result_at(full, rest))
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *results)
