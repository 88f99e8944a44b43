"""Reads pictures from files."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxconv.data._tfds_files import MAX_PIXELS, MODES


def read_image(
    path: str | Path, size: int | tuple[int, int] | None = None, channels: int | None = None
) -> UInt8[np.ndarray, "height width channels"]:
    """Reads a picture; nothing is unpacked before its size is known.

    Args:
      path: a PNG, JPEG, GIF, BMP, WebP or TIFF file.
      size: (height, width) to resize to, or one number for both.
      channels: 1 (grey), 3 (colours) or 4 (colours and alpha) to convert to.

    Raises:
      ValueError: if it is no such picture, is damaged, or has too many pixels.
      OSError: if the file cannot be read.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(
                    f"it is {picture.height} x {picture.width}, more than {MAX_PIXELS} pixels."
                )
            picture = ImageOps.exif_transpose(picture)
            mode = MODES[channels] if channels else "RGB"
            picture = picture.convert(mode)
    except UnidentifiedImageError:
        raise ValueError("it is no PNG, JPEG, GIF, BMP, WebP or TIFF.") from None
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture).reshape(picture.height, picture.width, -1)
