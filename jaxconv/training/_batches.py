"""A whole split as one batch: its way to the device, and a loop over its parts."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from jaxconv.data.arrays import Batch, Dataset, Split
from jaxconv.data.hints import warn_of_scale
from jaxconv.data.stream import Stream
from jaxconv.training.state import TrainState
from jaxconv.training.step import Classifier


def on_device(data: Split | Batch) -> dict[str, Array]:
    """Puts a whole split on the default device, as one batch; arrays on devices stay there.

    Raises:
      TypeError: if it is a whole data set.
      ValueError: if the fields have different numbers of samples, or none.

    Example:
      >>> on_device({"image": np.ones((3, 28, 28, 1)), "label": np.arange(4)})
      Traceback (most recent call last):
      ValueError: All fields need the same number of samples, at least one, not ...
    """
    batch = as_batch(data)
    shapes = {name: np.shape(x) for name, x in batch.items()}
    lengths = {shape[0] if shape else None for shape in shapes.values()}
    # A compiled program would read past the end of a field that is too short, without an error.
    if len(lengths) != 1 or lengths & {0, None}:
        raise ValueError(f"All fields need the same number of samples, at least one, not {shapes}.")
    return put(dict(batch))


def put(tree: PyTree) -> PyTree[Array]:
    """Puts NumPy arrays and numbers on the default device; arrays on devices stay there.

    Example:
      >>> put({"step": 3})
      {'step': Array(3, dtype=int32, weak_type=True)}
    """
    return jax.tree.map(lambda x: x if isinstance(x, jax.Array) else jax.device_put(x), tree)


def as_batch(data: Split | Batch) -> Batch:
    """A split as one batch; a batch stays.

    Raises:
      TypeError: if it is a whole data set.

    Example:
      >>> as_batch(Split(np.ones((2, 28, 28, 1)), np.arange(2, dtype=np.int32)))["label"]
      array([0, 1], dtype=int32)
    """
    if isinstance(data, Dataset):
        raise TypeError("Pass a split of the data set, such as data.train, not all of it.")
    return data.batch() if isinstance(data, Split) else data


def check_samples(net: Classifier, state: TrainState, data: Any) -> None:
    """Refuses labels that are no class of the net, which a compiled program cannot; warns of scale.

    A stream checks its own, and arrays that other processes hold too are not looked at.

    Raises:
      ValueError: with the first such label.
    """
    if data is None or isinstance(data, Stream):
        return
    batch = as_batch(data)
    if not {"image", "label"} <= batch.keys():
        return
    image, label = batch["image"], batch["label"]
    if not all(getattr(x, "is_fully_addressable", True) for x in (image, label)):
        return
    label = np.asarray(jax.device_get(label))
    if label.ndim == 1 and label.dtype.kind in "iu":
        one = jax.ShapeDtypeStruct((1, *image.shape[1:]), image.dtype)
        classes = jax.eval_shape(net.predict, state, one).shape[-1]
        outside = (label < 0) | (label >= classes)
        if outside.any():
            index = int(outside.argmax())
            raise ValueError(
                f"The label at index {index} is {label[index]}, but the net has {classes} classes: "
                f"labels are 0 to {classes - 1}."
            )
    if not isinstance(data, Split):
        warn_of_scale(image, stacklevel=4)


def over_batches(function: Callable[[Any], PyTree], data: PyTree, batch_size: int) -> PyTree:
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
