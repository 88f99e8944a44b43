"""Convolution and pooling on NHWC images, in the form that is fast on each backend.

Every operation has two forms that agree in value and in reverse-mode gradient: `"patches"`, slices
of the input and products of matrices, for the CPU (see `_patches`); and `"xla"`, XLA's own windows,
for GPU and TPU and for the forward mode of max-pooling. `form=None` picks by
`jax.default_backend()`. Parameters never depend on the form.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxconv._checks import check_choice
from jaxconv.models import _patches as patches
from jaxconv.models._arguments import (
    Padding,
    Pads,
    Pair,
    as_pair,
    check_fits,
    conv_arguments,
    pool_arguments,
)

Form = Literal["patches", "xla"]


def conv(
    image: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width channels filters"],
    *,
    strides: Pair = 1,
    padding: Padding = "valid",
    form: Form | None = None,
) -> Float[Array, "batch out_height out_width filters"]:
    """Two-dimensional convolution (cross-correlation, as in every deep-learning library).

    Args:
      image: the batch of images.
      kernel: the filters, in Keras' order (HWIO).
      strides: one integer, or one for height and one for width.
      padding: `"valid"`, `"same"` (upper or lower case), or the zeros to add, in the forms that
        Keras' `ZeroPadding2D` takes: `1`, `(1, 2)` or `((top, bottom), (left, right))`.
      form: `"patches"`, `"xla"` or `None` for the backend's own (see the module).

    Raises:
      ValueError: if an argument is malformed, the channels differ, or the window does not fit.

    Example:
      >>> image = jnp.arange(9.0).reshape(1, 3, 3, 1)
      >>> kernel = jnp.arange(4.0).reshape(2, 2, 1, 1)
      >>> print(conv(image, kernel, padding=1)[0, :, :, 0])
      [[ 0.  3.  8.  4.]
       [ 9. 19. 25. 10.]
       [21. 37. 43. 16.]
       [ 6.  7.  8.  0.]]

    Source: https://keras.io/api/layers/convolution_layers/convolution2d/
    """
    image, kernel, steps, pads = conv_arguments(image, kernel, strides, padding)
    if choose_form(form) == "xla":
        dimensions = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(image, kernel, steps, pads, dimension_numbers=dimensions)
    image = _pad(image, pads, 0.0)
    outputs = patches.positions(image.shape, kernel.shape, steps)
    return patches.conv(image, kernel, steps, outputs)


def max_pool(
    image: Float[Array, "batch height width channels"],
    window: Pair = 2,
    *,
    strides: Pair | None = None,
    padding: Padding = "valid",
    form: Form | None = None,
) -> Float[Array, "batch out_height out_width channels"]:
    """The maximum of each window; its gradient goes to the first maximum in row-major order, whole.

    Args:
      image: the batch of images or feature maps.
      window: one integer, or one for height and one for width.
      strides: as `window`; `None` is the window itself.
      padding: as in `conv`, but padded cells never win.
      form: as in `conv`; `"patches"` has no forward mode of differentiation.

    Raises:
      ValueError: if an argument is malformed or the window does not fit.

    Example:
      >>> image = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
      >>> print(max_pool(image, 2, strides=1)[0, :, :, 0])
      [[5. 6.]
       [8. 9.]]

    Source: https://keras.io/api/layers/pooling_layers/max_pooling2d/
    """
    size, steps, pads = pool_arguments(image, window, strides, padding)
    if choose_form(form) == "patches":
        return patches.max_pool(_pad(image, pads, -jnp.inf), size, steps)
    whole, moves = (1, *size, 1), (1, *steps, 1)
    return lax.reduce_window(image, -jnp.inf, lax.max, whole, moves, ((0, 0), *pads, (0, 0)))


def conv_max_pool(
    image: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width channels filters"],
    window: Pair = 2,
    *,
    strides: Pair = 1,
    padding: Padding = "valid",
    form: Form | None = None,
) -> Float[Array, "batch out_height out_width filters"]:
    """`max_pool(conv(image, kernel), window)`, without the outputs that no window covers.

    A 2×2 window on 11×11 feature maps uses 10×10 of them: `"patches"` computes no more. Args and
    errors as in both; the windows tile the feature maps.

    Example:
      >>> image = jnp.arange(25.0).reshape(1, 5, 5, 1)
      >>> print(conv_max_pool(image, jnp.ones((3, 3, 1, 1)))[0, :, :, 0])
      [[108.]]
    """
    if choose_form(form) == "xla":
        maps = conv(image, kernel, strides=strides, padding=padding, form=form)
        return max_pool(maps, window, form=form)
    image, kernel, steps, pads = conv_arguments(image, kernel, strides, padding)
    image, size = _pad(image, pads, 0.0), as_pair("window", window)
    height, width = patches.positions(image.shape, kernel.shape, steps)
    check_fits("the pooling window", size, (height, width), "valid")
    covered = height - height % size[0], width - width % size[1]
    return patches.max_pool(patches.conv(image, kernel, steps, covered), size, size)


def avg_pool(
    image: Float[Array, "batch height width channels"],
    window: Pair = 2,
    *,
    strides: Pair | None = None,
    padding: Padding = "valid",
    form: Form | None = None,
) -> Float[Array, "batch out_height out_width channels"]:
    """The mean of each window; padded cells do not count, as in Keras.

    Sums are at least float32. Args and errors as in `max_pool`.

    Example:
      >>> image = jnp.arange(4.0).reshape(1, 2, 2, 1)
      >>> print(avg_pool(image, 2, strides=1, padding="same")[0, :, :, 0])
      [[1.5 2. ]
       [2.5 3. ]]

    Source: https://keras.io/api/layers/pooling_layers/average_pooling2d/
    """
    size, steps, pads = pool_arguments(image, window, strides, padding)
    unpadded = [np.pad(np.ones(n, int), pad) for n, pad in zip(image.shape[1:3], pads, strict=True)]
    down, across = (
        np.lib.stride_tricks.sliding_window_view(cells, n)[::step].sum(axis=-1)
        for cells, n, step in zip(unpadded, size, steps, strict=True)
    )
    count = np.maximum(np.outer(down, across), 1)[:, :, None]
    wide = image.astype(jnp.promote_types(image.dtype, jnp.float32))
    if choose_form(form) == "patches":
        total = sum(patches.windows(_pad(wide, pads, 0.0), size, steps))
    else:
        whole, moves = (1, *size, 1), (1, *steps, 1)
        total = lax.reduce_window(wide, 0.0, lax.add, whole, moves, ((0, 0), *pads, (0, 0)))
    return (total / jnp.asarray(count, wide.dtype)).astype(image.dtype)


def choose_form(form: Form | None) -> Form:
    """The form itself, or the backend's own for None; a ValueError names an unknown form.

    Example:
      >>> choose_form("xla")
      'xla'
    """
    check_choice("form", form, ("patches", "xla", None))
    return form or ("patches" if jax.default_backend() == "cpu" else "xla")


def _pad(image: Array, pads: Pads, value: float) -> Array:
    if not any(map(any, pads)):
        return image
    return jnp.pad(image, ((0, 0), *pads, (0, 0)), constant_values=value)
