"""Random changes of images in the training step: pure functions of a key for each image.

An augmentation is `(keys, images) -> images`: of the same shape and dtype, and each image follows
from its own key, so that neither the batch nor the device nor the compiled program matters. Write
your own in the same form, and join several by `compose`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key, Shaped

from jaxconv._checks import check_positive

Augment = Callable[[Array, Array], Array]
"""`(keys [N], images [N, height, width, channels]) -> images`."""


class _Draws(NamedTuple):
    """How each image is moved."""

    matrix: Float[Array, "batch 2 2"]
    """From a place around the centre to where it goes, as rows and columns."""
    field: Float[Array, "batch 2 rows columns"]
    """What is added to the place that each pixel of the result comes from; one 0 for all."""
    place: Float[Array, "batch 2"]
    """Where the shift lies between the least and the largest, in [0, 1)."""


def warp(
    *,
    rotation: float = 0.0,
    zoom: float = 0.0,
    shear: float = 0.0,
    shift: float = 0.0,
    elastic: float = 0.0,
    smoothness: float = 6.0,
) -> Augment:
    """Makes an augmentation that moves every pixel, with one bilinear interpolation for all of it.

    Rotation, zoom and shear keep the centre of the image. The shift is a number of whole pixels for
    which nothing that is not 0 leaves the image: it cuts no digit. What may not fit into the
    image, turned and with the largest displacement, is centred. Zeros enter at the edges.

    Args:
      rotation: the largest angle, in degrees, to either side.
      zoom: by how much height and width grow or shrink at most, each by itself; 0.1 draws from
        [0.9, 1.1].
      shear: the largest angle, in degrees, by which columns lean to either side.
      shift: the share of the empty margin, in [0, 1], that a shift may use. 0 leaves a digit where
        it is, even if it is cut.
      elastic: the standard deviation of an elastic deformation's displacements, in pixels.
      smoothness: the distance, in pixels, over which these displacements change.

    Raises:
      ValueError: if a number is out of its range. The augmentation raises it for all but a batch of
        uint8 or floating-point images with a key for each.

    Example:
      >>> digit = jnp.zeros((1, 5, 5, 1), jnp.uint8).at[0, 2, 2].set(255)
      >>> moved = warp(shift=1.0)(jax.random.split(jax.random.key(1), 1), digit)
      >>> int(moved.sum()), bool((moved == digit).all())
      (255, False)

    Source: Simard et al., 2003, "Best Practices for Convolutional Neural Networks Applied to Visual
    Document Analysis" (affine and elastic); https://keras.io/api/layers/preprocessing_layers/
    """
    limits = {"rotation": (rotation, 180), "zoom": (zoom, 0.9), "shear": (shear, 80)}
    limits |= {"shift": (shift, 1), "elastic": (elastic, math.inf)}
    for name, (value, largest) in limits.items():
        if not 0 <= value <= largest or math.isinf(value):
            raise ValueError(f"{name} must be in [0, {largest}], not {value!r}.")
    if not 1 <= smoothness < math.inf:
        raise ValueError(f"smoothness must be at least 1 pixel, not {smoothness!r}.")

    def warped(
        keys: Key[Array, " batch"], image: Shaped[Array, "batch height width channels"]
    ) -> Shaped[Array, "batch height width channels"]:
        _check(keys, image)
        draws = _draw(keys, image.shape[1:3], (rotation, zoom, shear, elastic), smoothness)
        offset = _shift(image, draws, shift) if shift else jnp.zeros_like(draws.place)
        return _resample(image, _sources(draws, offset, image.shape[1:3]))

    return warped


def erase(size: int) -> Augment:
    """Makes an augmentation that sets a square of each image to 0, at any place within it.

    Args:
      size: the side of the square, in pixels.

    Raises:
      ValueError: if `size` is not positive, or the square is larger than the image.

    Example:
      >>> image = jnp.ones((1, 5, 5, 1))
      >>> float(erase(2)(jax.random.split(jax.random.key(0), 1), image).sum())
      21.0

    Source: DeVries and Taylor, 2017, https://arxiv.org/abs/1708.04552
    """
    check_positive("size", size)

    def erased(
        keys: Key[Array, " batch"], image: Shaped[Array, "batch height width channels"]
    ) -> Shaped[Array, "batch height width channels"]:
        _check(keys, image)
        sides = jnp.array(image.shape[1:3])
        if size > min(image.shape[1:3]):
            raise ValueError(f"A square of {size} is larger than images {image.shape[1:3]}.")
        draw = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, sides - size + 1))
        first = draw(keys)[:, :, None]
        rows, columns = (
            (jnp.arange(n) >= first[:, i]) & (jnp.arange(n) < first[:, i] + size)
            for i, n in enumerate(image.shape[1:3])
        )
        inside = rows[:, :, None] & columns[:, None, :]
        return jnp.where(inside[..., None], jnp.zeros((), image.dtype), image)

    return erased


def compose(*augments: Augment) -> Augment:
    """Joins augmentations: each works on the images of the one before it, with keys of its own.

    Example:
      >>> both = compose(warp(rotation=10), erase(4))
      >>> both(jax.random.split(jax.random.key(0), 3), jnp.ones((3, 28, 28, 1))).shape
      (3, 28, 28, 1)
    """

    def composed(
        keys: Key[Array, " batch"], image: Shaped[Array, "batch height width channels"]
    ) -> Shaped[Array, "batch height width channels"]:
        own = jax.vmap(lambda key: jax.random.split(key, len(augments)))(keys)
        for i, augment in enumerate(augments):
            image = augment(own[:, i], image)
        return image

    return composed


def _check(keys: Array, image: Array) -> None:
    """Refuses all but a batch of uint8 or floating-point images, and a key for each."""
    if image.ndim != 4 or not (
        image.dtype == jnp.uint8 or jnp.issubdtype(image.dtype, jnp.floating)
    ):
        raise ValueError(
            "Images to augment are [batch, height, width, channels] of uint8 or floats, not "
            f"{image.dtype} {image.shape}: add axes such as images[..., None], or convert them."
        )
    if keys.shape != image.shape[:1]:
        raise ValueError(
            f"Each image needs its own key, but keys are {keys.shape} for {len(image)} images: "
            "make them by jax.random.split(key, len(images))."
        )


def _draw(
    keys: Array, shape: tuple[int, ...], most: tuple[float, ...], smoothness: float
) -> _Draws:
    """Draws how images of this height and width move, at `most` so far."""
    rotation, zoom, shear, elastic = most
    keys, for_field = jax.vmap(jax.random.split)(keys).T
    u = jax.vmap(lambda key: jax.random.uniform(key, (6,), minval=-1.0))(keys)
    angle, lean = jnp.deg2rad(rotation) * u[:, 0], jnp.tan(jnp.deg2rad(shear) * u[:, 1])
    high, wide = 1 + zoom * u[:, 2], 1 + zoom * u[:, 3]
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    matrix = jnp.stack([cos * high, -sin * wide, sin * high, cos * wide], axis=-1)
    matrix = matrix.at[:, 0].add(-sin * lean * high).at[:, 2].add(cos * lean * high)
    field = jnp.zeros((len(u), 2, 1, 1))
    if elastic:
        down, across = (_bumps(n, smoothness) for n in shape)
        size = (2, down.shape[1], across.shape[1])
        noise = jax.vmap(lambda key: jax.random.normal(key, size))(for_field)
        field = elastic * jnp.einsum("ya,ncab,xb->ncyx", down, noise, across)
    return _Draws(matrix.reshape(-1, 2, 2), field, (u[:, 4:] + 1) / 2)


def _bumps(pixels: int, distance: float) -> Float[np.ndarray, "pixels knots"]:
    """Gaussian weights of knots `distance` apart; normal numbers there give a variance of 1."""
    knots = np.arange(-1, math.ceil(pixels / distance) + 2) * distance
    weights = np.exp(-0.5 * ((np.arange(pixels)[:, None] - knots) / (0.7 * distance)) ** 2)
    return (weights / np.sqrt((weights**2).sum(axis=1, keepdims=True))).astype(np.float32)


def _shift(image: Array, draws: _Draws, share: float) -> Float[Array, "batch 2"]:
    """A shift in whole pixels that keeps all that is not 0 inside, as the draws place it."""
    height, width = image.shape[1:3]
    sizes = jnp.array([height, width], jnp.float32)
    centre = (sizes - 1) / 2
    ink = (image != 0).any(axis=-1)
    # The outermost ink of each row goes furthest. Integers, since XLA compares floats slowly.
    left = jnp.where(ink, jnp.arange(width), width).min(axis=2)
    right = jnp.where(ink, jnp.arange(width), -1).max(axis=2)
    inked = right >= 0
    down = jnp.arange(height) - centre[0]
    edges = []
    for row in draws.matrix.transpose(1, 0, 2)[..., None]:
        ends = [row[:, 0] * down + row[:, 1] * (x - centre[1]) for x in (left, right)]
        least, most = jnp.minimum(*ends), jnp.maximum(*ends)
        field = (row * draws.field.reshape(len(row), 2, -1)).sum(axis=1)
        # Interpolation reaches less than a pixel beyond the outermost ones.
        reach = jnp.abs(row).sum(axis=(1, 2))
        first = jnp.where(inked, least, jnp.inf).min(axis=1) - field.max(axis=1) - reach
        last = jnp.where(inked, most, -jnp.inf).max(axis=1) - field.min(axis=1) + reach
        edges.append((first, last))
    first, last = jnp.array(edges).transpose(1, 2, 0)
    some = inked.any(axis=1)[:, None]
    least = -jnp.floor(jnp.where(some, first + centre, 0)) - 1
    largest = sizes - jnp.ceil(jnp.where(some, last + centre, 0))
    nearest = jnp.clip(0.0, least, largest)
    low = jnp.round(nearest + share * (least - nearest))
    high = jnp.round(nearest + share * (largest - nearest))
    drawn = low + jnp.floor((high - low + 1) * draws.place)
    return jnp.where(least > largest, jnp.floor((least + largest) / 2), drawn)


def _sources(
    draws: _Draws, offset: Array, shape: tuple[int, ...]
) -> Float[Array, "batch 2 height width"]:
    """The place in the image, of this height and width, that each pixel of the result is from."""
    (a, b), (c, d) = draws.matrix.transpose(1, 2, 0)[..., None, None]
    height, width = shape
    rows = jnp.arange(height)[:, None] - (height - 1) / 2 - offset[:, 0, None, None]
    columns = jnp.arange(width)[None, :] - (width - 1) / 2 - offset[:, 1, None, None]
    area = a * d - b * c
    places = jnp.stack([(d * rows - b * columns) / area, (a * columns - c * rows) / area], axis=1)
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
    return places + centre[:, None, None] + draws.field


def _resample(
    image: Shaped[Array | np.ndarray, "batch height width channels"],
    sources: Float[Array, "batch 2 height width"],
) -> Shaped[Array, "batch height width channels"]:
    """Bilinear interpolation, with zeros outside; uint8 is rounded."""
    height, width = image.shape[1:3]
    sizes = jnp.array([height, width], jnp.float32)[:, None, None]
    sources = jnp.clip(sources, -1, sizes)
    first = jnp.minimum(jnp.floor(sources), sizes - 1)
    down, across = jnp.moveaxis(sources - first, 1, 0)[..., None]
    top, left = jnp.moveaxis(first.astype(jnp.int32) + 1, 1, 0)
    padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Each place with its neighbours below and to the right: one lookup gets four pixels.
    four = [padded[:, y : height + 1 + y, x : width + 1 + x] for y in (0, 1) for x in (0, 1)]
    corners = jnp.stack(four, axis=-1)
    if image.dtype == jnp.uint8:
        corners = lax.bitcast_convert_type(corners, jnp.uint32)
    # vmap, so that devices that share a batch look up their own images.
    look_up = jax.vmap(lambda x, row, column: x.at[row, column].get(mode="promise_in_bounds"))
    found = look_up(corners, top, left)
    if image.dtype == jnp.uint8:
        found = lax.bitcast_convert_type(found, jnp.uint8).astype(jnp.float32)
    above = found[..., 0] * (1 - across) + found[..., 1] * across
    below = found[..., 2] * (1 - across) + found[..., 3] * across
    result = above * (1 - down) + below * down
    if image.dtype == jnp.uint8:
        result = jnp.round(result)
    return result.astype(image.dtype)
