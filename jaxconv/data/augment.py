"""Random changes of images in the training step: pure functions of a key for each image.

An augmentation is `(keys, images) -> images`: of the same shape and dtype, and each image follows
from its own key, so that neither the batch nor the device nor the compiled program matters. Write
your own in the same form, and join several by `compose`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, Shaped

from jaxconv._checks import check_positive
from jaxconv.data._warp import draw, place_shift, resample, sources

Augment = Callable[[Array, Array], Array]
"""`(keys [N], images [N, height, width, channels]) -> images`."""


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
        draws = draw(keys, image.shape[1:3], (rotation, zoom, shear, elastic), smoothness)
        offset = place_shift(image, draws, shift) if shift else jnp.zeros_like(draws.place)
        return resample(image, sources(draws, offset, image.shape[1:3]))

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
