"""Prediction: the probabilities of any number of images."""

import functools

import jax
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxconv._checks import check_positive
from jaxconv.data.arrays import Dataset, Split
from jaxconv.data.hints import warn_of_scale
from jaxconv.training._batches import as_batch, over_batches
from jaxconv.training.state import TrainState
from jaxconv.training.step import Classifier


def predict(
    net: Classifier,
    state: TrainState,
    image: Split | Shaped[Array | np.ndarray, "samples *image"],
    *,
    batch_size: int = 200,
) -> Float[Array, "samples classes"]:
    """Computes class probabilities: the softmax of the model's logits.

    Args:
      net: from `classifier`. JAX compiles once for each net, batch size and shape.
      state: the state whose parameters predict.
      image: uint8 or floating-point images, which are scaled as in a step, or a `Split`.
      batch_size: samples at a time.

    Returns:
      The probabilities, at least float32; they add up to 1 for each sample.

    Raises:
      ValueError: if `batch_size` is not positive, or there is no image.
      TypeError: for a whole data set.

    Warns:
      UserWarning: if floating-point images in NumPy go far above 1.

    Example:
      >>> import jaxconv
      >>> net = jaxconv.classifier(jaxconv.create_model("dense"), jaxconv.rmsprop())
      >>> state = net.init(jax.random.key(0), (28, 28, 1))
      >>> image = jaxconv.load_dataset("mnist").test.image[:3]
      >>> jaxconv.predict(net, state, image).sum(axis=-1).round(5)
      Array([1., 1., 1.], dtype=float32)
    """
    check_positive("batch_size", batch_size)
    if isinstance(image, Split | Dataset):
        image = as_batch(image)["image"]
    if len(image) == 0:
        raise ValueError(f"There is no image to predict: the shape is {image.shape}.")
    if not isinstance(image, jax.Array):  # it may be traced, or would have to come back first
        warn_of_scale(image, stacklevel=3)
    return _predict(state, image, function=net.predict, batch_size=batch_size)


@functools.partial(jax.jit, static_argnames=("function", "batch_size"))
def _predict(state, image, *, function, batch_size):
    return over_batches(functools.partial(function, state), image, batch_size)
