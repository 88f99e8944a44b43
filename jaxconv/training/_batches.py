"""A whole split as one batch: its check, and its way to the device."""

import jax
import numpy as np
from jaxtyping import Array

from jaxconv.data.arrays import Batch, Dataset, Split


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
    if isinstance(data, Dataset):
        raise TypeError("Pass a split of the data set, such as data.train, not all of it.")
    batch = data.batch() if isinstance(data, Split) else data
    shapes = {name: np.shape(x) for name, x in batch.items()}
    lengths = {shape[0] if shape else None for shape in shapes.values()}
    # A compiled program would read past the end of a field that is too short, without an error.
    if len(lengths) != 1 or lengths & {0, None}:
        raise ValueError(f"All fields need the same number of samples, at least one, not {shapes}.")
    return {name: x if isinstance(x, jax.Array) else jax.device_put(x) for name, x in batch.items()}
