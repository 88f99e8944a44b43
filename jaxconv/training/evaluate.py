"""Evaluation and prediction: loops over all samples, none left out."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, PyTree, Shaped

from jaxconv._checks import check_positive
from jaxconv.data.arrays import Batch, Dataset, Split
from jaxconv.training import metrics
from jaxconv.training.state import TrainState
from jaxconv.training.step import EvalStep, eval_logits

Row = dict[str, float]


def evaluate(
    state: TrainState, data: Split | Batch, *, eval_step: EvalStep, batch_size: int = 200
) -> Row:
    """The mean loss and metrics over a split: every sample once, the last batch at its own size.

    Compiled once for each `eval_step`, batch size and shape of data.

    Args:
      state: the state whose parameters are evaluated.
      data: a `Split`, or a batch that holds it all.
      eval_step: as `make_eval_step` makes it.
      batch_size: samples at a time; it bounds the memory, and changes the result by no
        more than rounding.

    Raises:
      ValueError: if `batch_size` is not positive or no sample counts.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> test = jaxconv.load_dataset("mnist").test
      >>> sorted(jaxconv.evaluate(state, test, eval_step=jaxconv.make_eval_step(model)))
      ['accuracy', 'loss']
    """
    check_positive("batch_size", batch_size)
    rows = _compiled_eval_epoch(state, as_batch(data), eval_step=eval_step, batch_size=batch_size)
    return metrics.mean(jax.device_get(rows))


def eval_epoch(
    state: TrainState, data: Batch, *, eval_step: EvalStep, batch_size: int
) -> dict[str, Shaped[Array, " batches"]]:
    """The sums of each batch of the data, in order, as one loop; pure. `evaluate` compiles it.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> data = jax.tree.map(lambda x: x[:100], jaxconv.load_dataset("mnist").test.batch())
      >>> eval_step = jaxconv.make_eval_step(model)
      >>> eval_epoch(state, data, eval_step=eval_step, batch_size=32)["count"].tolist()
      [32, 32, 32, 4]
    """
    return _over_batches(functools.partial(eval_step, state), data, batch_size, jnp.atleast_1d)


def predict(
    state: TrainState,
    image: Shaped[Array | np.ndarray, "samples *image"],
    *,
    model: nn.Module,
    batch_size: int = 200,
) -> Float[Array, "samples classes"]:
    """Class probabilities: softmax of the model's logits.

    Args:
      state: the state whose parameters predict.
      image: uint8 or floating-point images, scaled as a step does it.
      model: the Linen classifier. Compiled once for each model, batch size and shape.
      batch_size: samples at a time.

    Raises:
      ValueError: if `batch_size` is not positive or there is no image.

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


def as_batch(data: Split | Batch) -> dict[str, Array | np.ndarray]:
    """A split, or a batch that holds it all, as a batch whose fields are sure to be of one length.

    Raises:
      TypeError: for a whole data set.
      ValueError: if the fields differ in their number of samples, or have none.

    Example:
      >>> as_batch({"image": np.ones((3, 28, 28, 1)), "label": np.arange(4)})
      Traceback (most recent call last):
      ValueError: All fields need the same number of samples, at least one, not ...
    """
    if isinstance(data, Dataset):
        raise TypeError("Pass a split of the data set, such as data.train, not all of it.")
    batch = dict(data.batch() if isinstance(data, Split) else data)
    shapes = {name: np.shape(x) for name, x in batch.items()}
    lengths = {shape[0] if shape else None for shape in shapes.values()}
    # Compiled, a field that is too short would be read past its end without a word.
    if len(lengths) != 1 or lengths & {0, None}:
        raise ValueError(f"All fields need the same number of samples, at least one, not {shapes}.")
    return batch


def on_device(data: Split | Batch) -> dict[str, Array]:
    """A split or batch, checked as `as_batch` does, on the default device.

    What is on devices already stays where it is, also where other processes hold a part of it.

    Example:
      >>> on_device({"label": np.arange(3)})["label"].devices() == {jax.devices()[0]}
      True
    """
    return {
        name: x if isinstance(x, jax.Array) else jax.device_put(x)
        for name, x in as_batch(data).items()
    }


_compiled_eval_epoch = jax.jit(eval_epoch, static_argnames=("eval_step", "batch_size"))


@functools.partial(jax.jit, static_argnames=("model", "batch_size"))
def _predict(state, image, *, model, batch_size):
    def probabilities(image):
        logits = eval_logits(model, state, image)
        return nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))

    return _over_batches(probabilities, image, batch_size, lambda x: x)


def _over_batches(
    function, data: PyTree, batch_size: int, rows: Callable[[Array], Array]
) -> PyTree:
    """`function` of consecutive batches in one loop, `rows` of it joined; no sample is left out."""
    full, rest = divmod(len(jax.tree.leaves(data)[0]), batch_size)

    def at(step: int | Array, size: int) -> PyTree:
        batch = jax.tree.map(
            lambda x: lax.dynamic_slice_in_dim(jnp.asarray(x), step * batch_size, size), data
        )
        return jax.tree.map(rows, function(batch))

    parts = []
    if full:
        looped = lax.map(lambda step: at(step, batch_size), jnp.arange(full))
        parts.append(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), looped))
    if rest:
        parts.append(at(full, rest))
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)
