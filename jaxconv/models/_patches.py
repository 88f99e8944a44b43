"""The CPU's form of convolution and max-pooling: windows as slices, and products of matrices.

XLA's CPU compiler has no fast gradient of a convolution or of a pooling window, least of all inside
a loop, but its matrix product is good. So a convolution joins the slices of its input, one for each
cell of the window, and multiplies them by its kernel as one matrix; autodiff makes its gradients
products as well. The rest is moving data, which XLA does well unless it fuses too much
(`no_fusion`). `experiments/results/cpu_speed.md` lists all attempts and their times.

The functions expect padded images and checked arguments: `ops` pads and checks.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Shaped

from jaxconv.models.fusion import no_fusion

Two = tuple[int, int]

PARTS, MIN_PART = 4, 16  # parts of a batch, images in a part; measured, see cpu_speed.md


def split_batch(
    function: Callable[[Array], Array], image: Float[Array, "batch height width channels"]
) -> Float[Array, "batch ..."]:
    """Applies a function of each image to the quarters of a batch, if they have 16 images or more.

    XLA's CPU runtime starts every operation whose inputs are ready: one part's operations run while
    another's wait for a thread, and each part's arrays are closer to fitting a core's cache. A part
    takes every fourth image, so that a batch divided among devices stays where it is (if a part can
    be divided among them). On other backends the batch stays whole.

    Example:
      >>> split_batch(lambda x: 2 * x, jnp.ones((64, 2, 2, 1))).shape
      (64, 2, 2, 1)
    """
    batch = image.shape[0] if image.ndim == 4 else 0
    whole = not isinstance(batch, int) or batch % PARTS or batch < PARTS * MIN_PART
    if whole or jax.default_backend() != "cpu":
        return function(image)
    parts = image.reshape(batch // PARTS, PARTS, *image.shape[1:])
    results = jnp.stack([function(parts[:, i]) for i in range(PARTS)], axis=1)
    return results.reshape(batch, *results.shape[2:])


def conv(
    image: Float[Array, "batch height width channels"],
    kernel: Float[Array, "kernel_height kernel_width channels filters"],
    strides: Two,
    outputs: Two,
) -> Float[Array, "batch out_height out_width filters"]:
    """The first `outputs` rows and columns of a convolution without padding."""
    *window, channels, filters = kernel.shape
    patches = _patches(image, tuple(window), strides, outputs)
    shape, inner = (image.shape[0], *outputs), math.prod(window) * channels
    # Keep the patch matrix 2-D (else XLA copies for the kernel gradient); two reshapes, since
    # explicit sharding cannot merge all axes at once.
    if channels == 1:
        rows = patches.reshape(inner, *shape).reshape(inner, math.prod(shape)).T
    else:
        rows = patches.reshape(*shape, inner).reshape(math.prod(shape), inner)
    return (rows @ kernel.reshape(inner, filters)).reshape(*shape, filters)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _stacked_windows(image: Array, window: Two, strides: Two, outputs: Two) -> Array:
    """The windows: [batch, height, width, *window, channels], or *window first for one channel."""
    # Copies are long if channels vary fastest or, with one channel, if pixels do.
    image, axis = (image[..., 0], 0) if image.shape[-1] == 1 else (image, 3)

    def stack(image: Array) -> Array:
        # A stack of short stacks becomes one kernel; one stack of all cells, a kernel for each.
        cells = windows(image, window, strides, outputs)
        rows = [cells[i : i + window[1]] for i in range(0, len(cells), window[1])]
        return jnp.stack([jnp.stack(row, axis) for row in rows], axis)

    return no_fusion(stack)(image)


_patches = jax.jit(_stacked_windows, static_argnums=(1, 2, 3))


@_stacked_windows.defjvp
def _(window: Two, strides: Two, outputs: Two, images: Any, tangents: Any) -> tuple[Array, Array]:
    """Keeps the tangents' call apart from the images': `jax.checkpoint` divides no call in two."""
    return tuple(_patches(x, window, strides, outputs) for (x,) in (images, tangents))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(
    image: Float[Array, "batch height width channels"], window: Two, strides: Two
) -> Float[Array, "batch out_height out_width channels"]:
    """The maximum of each window; its hand-written gradient goes to the first maximum.

    Autodiff of `maximum` would split a tie between the cells. Windows are in row-major order.

    Example:
      >>> jax.grad(lambda x: max_pool(x, (1, 2), (1, 2)).sum())(jnp.ones((1, 1, 2, 1))).ravel()
      Array([1., 0.], dtype=float32)
    """
    return functools.reduce(jnp.maximum, windows(image, window, strides))


def _max_pool_forward(image: Array, window: Two, strides: Two):
    best, winner = _winner(image, window, strides)
    return best, (winner, image.shape)


def _max_pool_backward(window: Two, strides: Two, residuals: Any, grad: Array):
    winner, shape = residuals
    return (_to_winner(winner, grad, shape, window, strides),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _winner(image: Array, window: Two, strides: Two) -> tuple[Array, Array]:
    """The maximum of each window, and the index of the first cell that has it."""

    def compare(image: Array) -> tuple[Array, Array]:
        best, *others = windows(image, window, strides)
        winner = jnp.zeros(best.shape, jnp.int32 if len(others) > 255 else jnp.uint8)
        for cell, candidate in enumerate(others, start=1):
            winner = jnp.where(candidate > best, jnp.asarray(cell, winner.dtype), winner)
            best = jnp.maximum(best, candidate)
        return best, winner

    return no_fusion(compare)(image)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _to_winner(
    winner: Array, grad: Array, shape: tuple[int, ...], window: Two, strides: Two
) -> Array:
    """The gradient of the pooled image: each window's gradient, in the cell that won."""

    def place(cell: int, axis: int) -> tuple[int, int, int]:  # each value in its window's cell
        step, length = strides[axis], grad.shape[1 + axis]
        return cell, shape[1 + axis] - cell - (length - 1) * step - 1, step - 1

    def scatter(winner: Array, grad: Array) -> Array:
        zero, padded = jnp.zeros((), grad.dtype), []
        for i, j in np.ndindex(*window):
            own = jnp.where(winner == i * window[1] + j, grad, 0)
            padding = ((0, 0, 0), place(i, 0), place(j, 1), (0, 0, 0))
            padded.append(lax.pad(own, zero, padding))
        return functools.reduce(jnp.add, padded)

    return no_fusion(scatter)(winner, grad)


def positions(shape: Sequence[Any], window: Sequence[int], strides: Two) -> Two:
    """The positions of a window in an image `(batch, height, width, channels)`, down and across.

    The batch may be a symbol of `jax.export`.
    """
    down, across = ((shape[i + 1] - window[i]) // strides[i] + 1 for i in (0, 1))
    return down, across


def windows(
    image: Shaped[Array, "batch height width *channels"],
    window: Two,
    strides: Two,
    outputs: Two | None = None,
) -> list[Shaped[Array, "batch out_height out_width *channels"]]:
    """A strided slice of the image for each cell of the window, in row-major order.

    `outputs` is the number of positions down and across, all of them by default.
    """
    (down, across), (height, width) = strides, outputs or positions(image.shape, window, strides)
    return [
        image[:, i : i + (height - 1) * down + 1 : down, j : j + (width - 1) * across + 1 : across]
        for i, j in np.ndindex(*window)
    ]
