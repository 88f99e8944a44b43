"""How `augment.warp` moves an image: draws, a shift that cuts nothing, and interpolation."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Shaped


class Draws(NamedTuple):
    """How each image is moved."""

    matrix: Float[Array, "batch 2 2"]
    """From a place around the centre to where it goes, as rows and columns."""
    field: Float[Array, "batch 2 rows columns"]
    """What is added to the place that each pixel of the result comes from; one 0 for all."""
    place: Float[Array, "batch 2"]
    """Where the shift lies between the least and the largest, in [0, 1)."""


def draw(keys: Array, shape: tuple[int, ...], most: tuple[float, ...], smoothness: float) -> Draws:
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
    return Draws(matrix.reshape(-1, 2, 2), field, (u[:, 4:] + 1) / 2)


def _bumps(pixels: int, distance: float) -> Float[np.ndarray, "pixels knots"]:
    """Gaussian weights of knots `distance` apart; normal numbers there give a variance of 1."""
    knots = np.arange(-1, math.ceil(pixels / distance) + 2) * distance
    weights = np.exp(-0.5 * ((np.arange(pixels)[:, None] - knots) / (0.7 * distance)) ** 2)
    return (weights / np.sqrt((weights**2).sum(axis=1, keepdims=True))).astype(np.float32)


def place_shift(image: Array, draws: Draws, share: float) -> Float[Array, "batch 2"]:
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


def sources(
    draws: Draws, offset: Array, shape: tuple[int, ...]
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


def resample(
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
