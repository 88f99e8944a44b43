"""Checks of the operations' arguments: images, windows, strides and padding."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax
from jaxtyping import Array, Shaped

from jaxconv._checks import check_positive

Pair = int | tuple[int, int]
"""One number for both height and width, or one for each."""
Pads = tuple[tuple[int, int], tuple[int, int]]
"""Cells to add: `((top, bottom), (left, right))`."""
Padding = str | int | tuple[int, int] | Pads
"""`"valid"`, `"same"` in any case, or zeros to add, as Keras' `ZeroPadding2D` takes them."""


def check_image(image: Shaped[Array, "..."]) -> None:
    """Refuses all but batches of floating-point images with a ValueError."""
    if image.ndim != 4:
        raise ValueError(
            f"Images are [batch, height, width, channels], not {image.shape}; an input_shape is of "
            "one image, such as (28, 28, 1)."
        )
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(f"Images are floating-point here, not {image.dtype}: scale them first.")


def as_pair(name: str, value: Any) -> tuple[int, int]:
    """A positive integer twice, or a sequence of two; a ValueError quotes anything else."""
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{name} is one integer or two (height, width), not {value!r}.")
    for number in pair:
        check_positive(name, number)
    return int(pair[0]), int(pair[1])


def conv_arguments(
    image: Array, kernel: Array, strides: Pair, padding: Padding
) -> tuple[Array, Array, tuple[int, int], Pads]:
    """Image and kernel of one dtype, strides and pads, all checked as `ops.conv` says."""
    check_image(image)
    if image.shape[-1] != kernel.shape[-2]:
        raise ValueError(
            f"The image has {image.shape[-1]} channels and the kernel of shape {kernel.shape} "
            f"expects {kernel.shape[-2]}: convert the image, or create the parameters with the "
            "input_shape of the data."
        )
    steps = as_pair("strides", strides)
    pads = _pads(padding, image.shape[1:3], kernel.shape[:2], steps)
    return *promote_dtype(image, kernel), steps, pads


def pool_arguments(
    image: Array, window: Pair, strides: Pair | None, padding: Padding
) -> tuple[tuple[int, int], tuple[int, int], Pads]:
    """Window, strides and pads of a pooling, all checked as `ops.max_pool` says."""
    check_image(image)
    size = as_pair("window", window)
    steps = size if strides is None else as_pair("strides", strides)
    pads = _pads(padding, image.shape[1:3], size, steps)
    if any(max(pad) >= n for pad, n in zip(pads, size, strict=True)):
        raise ValueError(f"padding {padding!r} fills a whole window of {size[0]}×{size[1]}.")
    return size, steps, pads


def check_fits(
    what: str,
    window: Sequence[int],
    shape: Sequence[int],
    padding: Padding,
    pads: Sequence[Sequence[int]] = ((0, 0), (0, 0)),
) -> None:
    """Refuses a window that is larger than the image of this height and width with its pads."""
    for n, size, pad in zip(shape, window, pads, strict=True):
        if n + sum(pad) < size:
            raise ValueError(
                f"{what} of {window[0]}×{window[1]} does not fit into {shape[0]}×{shape[1]} "
                f"with padding {padding!r}: use larger images, fewer layers or padding 'same'."
            )


def _pads(
    padding: Padding, shape: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, int]
) -> Pads:
    """The cells to add to an image of this height and width, after a check that the window fits."""
    if isinstance(padding, str) and padding.lower() in ("valid", "same"):
        pads = lax.padtype_to_pads(shape, window, strides, padding.upper())
    else:
        pads = _two_sides(padding)
    check_fits("a window", window, shape, padding, pads)
    height, width = (n + sum(pad) for n, pad in zip(shape, pads, strict=True))
    if height * width >= 2**31:
        raise ValueError(f"padding {padding!r} makes images of {height}×{width}: take less.")
    (top, bottom), (left, right) = pads
    return (int(top), int(bottom)), (int(left), int(right))


def _two_sides(padding: Any) -> list[tuple[int, ...]]:
    """Explicit padding, in any of its forms, as [(top, bottom), (left, right)]."""
    sides = padding if isinstance(padding, Sequence) else (padding, padding)
    pairs = [tuple(side) if isinstance(side, Sequence) else (side, side) for side in sides]
    numbers = [n for pair in pairs for n in pair]
    natural = all(isinstance(n, int | np.integer) and n >= 0 for n in numbers)
    if isinstance(padding, str) or [len(pair) for pair in pairs] != [2, 2] or not natural:
        raise ValueError(
            "padding is 'valid', 'same', an integer, (height, width) or "
            f"((top, bottom), (left, right)), not {padding!r}."
        )
    return pairs
