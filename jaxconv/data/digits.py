"""Does to a picture of a digit what MNIST did to its own: grey, crop, fit, centre.

NumPy in float64 alone, on whole numbers wherever they are added up: the order of a sum does not
matter, and a program in another language gets the same pixels.
"""

import numpy as np
from jaxtyping import Array, Bool, Float, Shaped, UInt8

SIDE = 28
"""Height and width of MNIST's images."""
FIT = 20
"""The longer side of MNIST's digits."""
CONTRAST = 25
"""How many of 255 levels a digit differs from its background, at least."""

Pixels = Float[np.ndarray, "height width"]


def prepare_digit(image: Shaped[Array | np.ndarray, "..."]) -> UInt8[np.ndarray, "28 28 1"]:
    """Turns a picture of one digit into an image like MNIST's, for a net that learned from MNIST.

    It makes the picture grey, finds by its border whether it is black on white or white on black,
    drops the noise, crops the digit, fits it into 20 x 20 pixels with its aspect kept, and puts its
    centre of mass into the middle of 28 x 28. It neither finds a digit among other things nor turns
    one that lies on its side.

    Args:
      image: `[H, W]` or `[H, W, channels]`, with 1 channel (grey), 3 (red, green, blue) or 4 (and
        alpha, laid over white); uint8 from 0 to 255, or floating point from 0 to 1. The border is
        background.

    Returns:
      The image, white on black.

    Raises:
      ValueError: if the shape, the dtype or the range differ from that; for NaN; for a blank
        picture; for several digits side by side.

    Example:
      >>> paper = np.full((100, 60), 230, np.uint8)
      >>> paper[20:80, 25:31] = 40  # a 1, in pencil
      >>> digit = prepare_digit(paper)
      >>> digit.shape, digit[4:24, 13:15, 0].tolist() == [[255, 255]] * 20, int(digit.sum()) // 255
      ((28, 28, 1), True, 40)

    Source: http://yann.lecun.com/exdb/mnist/, on how NIST's digits became MNIST's.
    """
    ink, noise = _ink(_grey(np.asarray(image)))
    # JPEG's haze, a shadow on the paper, and lines with a speck of noise do not widen the crop.
    clear = np.where(ink > np.clip(2 * noise, ink.max() / 32, ink.max() / 4), ink, 0)
    rows, columns = (clear.sum(axis=axis) > 3 * noise for axis in (1, 0))
    if ink.max() < CONTRAST or not rows.any() or not columns.any():
        raise ValueError(
            f"The picture is blank: nothing but noise differs from its border by {CONTRAST} of 255 "
            f"levels, {ink.max():g} at most. Draw darker, or raise the contrast."
        )
    box = _span(rows), _span(columns)
    _check_single(clear[box], columns[box[1]])
    ink = ink[box]
    height, width = ink.shape
    longer = max(height, width)
    fitted = _overlaps(height, _round(FIT * height / longer)) @ ink
    fitted = fitted @ _overlaps(width, _round(FIT * width / longer)).T
    fitted = np.floor(255 * fitted / fitted.max() + 0.5)
    top, left = _offset(fitted.sum(axis=1)), _offset(fitted.sum(axis=0))
    digit = np.zeros((SIDE, SIDE, 1), np.uint8)
    digit[top : top + fitted.shape[0], left : left + fitted.shape[1], 0] = fitted
    return digit


def _grey(image: Shaped[np.ndarray, "..."]) -> Pixels:
    """The luma of Rec. 601 over white, in whole numbers from 0 to 255."""
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or image.size == 0:
        raise ValueError(
            f"prepare_digit takes one picture, [H, W] or [H, W, 1, 3 or 4], not {image.shape}."
        )
    if np.issubdtype(image.dtype, np.floating):
        if not np.isfinite(image).all():
            raise ValueError("The picture has NaN or infinite pixels: replace them.")
        levels = np.floor(image.astype(np.float64) * 255 + 0.5)
        if levels.min() < 0 or levels.max() > 255:
            raise ValueError(
                f"The picture's floating-point pixels go from {image.min():g} to {image.max():g}: "
                "scale them to 0..1, or pass uint8."
            )
    elif image.dtype == np.uint8:
        levels = image
    else:
        raise ValueError(
            f"The picture is {image.dtype}: pass uint8 from 0 to 255, or floats from 0 to 1."
        )
    if levels.shape[2] == 1:
        return levels[..., 0].astype(np.float64)
    red, green, blue = levels[..., 0], levels[..., 1], levels[..., 2]
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    if levels.shape[2] == 4:
        grey = 255 + (grey - 255) * levels[..., 3] / 255
    return np.floor(grey + 0.5)


def _ink(grey: Pixels) -> tuple[Pixels, float]:
    """How far the pixels are from the background, on the digit's side of it; 0 up to the noise.

    The background is a plane through the medians of the four sides, since light falls unevenly.
    """
    height, width = grey.shape
    top, bottom, left, right = map(_median, (grey[0], grey[-1], grey[:, 0], grey[:, -1]))
    down = top + (bottom - top) * np.arange(height)[:, None] / max(height - 1, 1)
    across = left + (right - left) * np.arange(width) / max(width - 1, 1)
    middle = (top + bottom + left + right) / 4
    difference = grey - np.floor(down + across - middle + 0.5)
    # Cubed: the digit is few pixels that differ much, a shadow many that differ little.
    ink = np.maximum(
        difference if (difference * difference * difference).sum() > 0 else -difference, 0
    )
    border = np.sort(np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]]))
    noise = 6 * float(border[3 * len(border) // 4])  # 4 standard deviations, clipped at 0 or not
    return np.where(ink > noise, ink, 0), noise


def _check_single(clear: Pixels, columns: Bool[np.ndarray, " width"]) -> None:
    """Refuses digits side by side: parts with an empty column between, each of a digit's height."""
    height, width = clear.shape
    filled = np.flatnonzero(columns)
    parts = np.split(filled, np.flatnonzero(np.diff(filled) > 1) + 1)
    rows = [np.flatnonzero(clear[:, part].any(axis=1)) for part in parts]
    digits = sum(np.ptp(row) + 1 >= 0.6 * height for row in rows)
    if digits > 1 or width > 3 * height:
        wide = f"something {width} pixels wide and {height} high"
        found = f"{digits} digits side by side" if digits > 1 else wide
        raise ValueError(
            f"The picture has {found} where one digit belongs: cut it into one picture a digit."
        )


def _median(values: Float[np.ndarray, " n"]) -> float:
    return float(np.sort(values)[len(values) // 2])


def _span(filled: Bool[np.ndarray, " n"]) -> slice:
    """From the first to the last that is filled."""
    return slice(int(filled.argmax()), len(filled) - int(filled[::-1].argmax()))


def _round(size: float) -> int:
    return max(1, int(np.floor(size + 0.5)))


def _overlaps(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """How much of each new pixel each old one covers, in units of 1 / `new` of an old one.

    Whole numbers that sum to `old` for each new pixel: the exact average over its area.
    """
    news, olds = np.arange(new)[:, None] * old, np.arange(old)[None] * new
    ends = np.minimum(news + old, olds + new)
    return np.maximum(ends - np.maximum(news, olds), 0).astype(np.float64)


def _offset(mass: Float[np.ndarray, " n"]) -> int:
    """Where a side begins, for its centre of mass to lie in [13.5, 14.5) as in MNIST."""
    centre = (mass * np.arange(len(mass))).sum() / mass.sum()
    return int(np.clip(np.ceil(SIDE / 2 - 0.5 - centre), 0, SIDE - len(mass)))
