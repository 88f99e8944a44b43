"""What leads on whose data do not fit: hints behind errors, and warnings where they train badly."""

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

LARGE = 32
"""The largest floating-point pixel that passes without a warning: scaled ones stay far below."""


def warn_of_scale(image: Shaped[Array | np.ndarray, "..."], *, stacklevel: int) -> None:
    """Warns of floating-point images that nobody has scaled; a step leaves them as they are.

    Example:
      >>> warn_of_scale(np.ones((1, 28, 28, 1), np.float32), stacklevel=2)
    """
    if jnp.issubdtype(image.dtype, jnp.floating) and image.size:
        largest = float(jax.device_get(image.max()))
        if LARGE < largest < math.inf:
            warnings.warn(
                f"The images go up to {largest:g}: divide them by 255, or pass them as uint8, for "
                "a step to scale. It leaves floating-point images as they are.",
                stacklevel=stacklevel,
            )


def warn_of_labels(train: np.ndarray, test: np.ndarray) -> None:
    """Warns of labels that no net, or not the one that was meant, learns from.

    Example:
      >>> warn_of_labels(np.array([0, 1]), np.array([1]))
    """
    classes, lowest = np.unique(train), min(train.min(), test.min())
    lacking = np.setdiff1d(test, classes)
    if len(classes) == 1:
        found = f"All {len(train)} train labels are {classes[0]}: there is nothing to learn."
    elif lowest == 1:
        found = "No label is 0: if the labels count from 1, pass label - 1."
    elif lacking.size:
        found = f"No train sample has the test labels {lacking[:10].tolist()}: no net learns them."
    else:
        return
    warnings.warn(found, stacklevel=3)


def is_channels_first(shape: tuple[int, ...]) -> bool:
    """Whether the shape of four axes looks like `[samples, channels, height, width]`.

    Example:
      >>> is_channels_first((10, 3, 32, 32)), is_channels_first((10, 28, 28, 1))
      (True, False)
    """
    _, channels, height, width = shape
    return channels in (1, 3) and height == width > 4


def shape_hint(shape: tuple[int, ...]) -> str:
    """How images of a shape that does not fit become `[samples, height, width, channels]`.

    Example:
      >>> shape_hint((10, 784))
      ': give every pixel its place, such as image.reshape(-1, 28, 28, 1)'
    """
    if len(shape) == 4:
        return ": move the channels with np.moveaxis(image, 1, -1)"
    if len(shape) == 3:
        return ": add the channel axis with image[..., None]"
    side = math.isqrt(shape[1]) if len(shape) == 2 else 0
    square = f", such as image.reshape(-1, {side}, {side}, 1)" if side**2 == shape[-1] > 1 else ""
    return f": give every pixel its place{square}" if len(shape) == 2 else ""


def label_hint(label: np.ndarray) -> str:
    """How labels that do not fit become integers `[samples]`.

    Example:
      >>> label_hint(np.array([[3], [1]]))
      ': pass label[:, 0]'
    """
    if label.ndim == 2 and label.shape[1] == 1:
        return ": pass label[:, 0]"
    if label.ndim == 2 and label.dtype.kind in "iufb":
        one_hot = (label.sum(axis=1) == 1).all() and (label.max(axis=1) == 1).all()
        return ": for these one-hot labels pass label.argmax(-1)" if one_hot else ""
    if label.ndim != 1:
        return ""
    try:
        with np.errstate(invalid="ignore"):
            whole = (label.astype(int) == label.astype(float)).all()
    except (TypeError, ValueError):
        return ": number them with names, label = np.unique(label, return_inverse=True)"
    return ": pass label.astype(int)" if whole else ""
