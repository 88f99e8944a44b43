"""Guards for files that may come from anywhere: they start no program and fill no memory."""

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from PIL import Image

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's modes of 8 bits per channel, by the number of channels."""
MAX_BYTES = 2**30
"""What a file may always unpack to."""
MAX_GROWTH = 100
"""The most that a larger file may grow by; images grow by some 10 at most."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns any exception in the `with` block into a `ValueError` that names the file.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: with the first line of the exception.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        yield
    except Exception as error:  # Pillow, zipfile, gzip and NumPy raise nearly anything
        raise ValueError(f"{path} cannot be read: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The first line of a message, or else the exception's name."""
    return str(error).partition("\n")[0] or type(error).__name__


def read_declared(read: Callable[[int], bytes], size: int, stored: int) -> bytearray:
    """Reads the rest of a file, piece by piece: no declared size is believed.

    Args:
      read: the method of the file, which may unpack as it reads.
      size: the bytes that it declares to have left.
      stored: the bytes that it takes on the disk.

    Raises:
      ValueError: if it has more or fewer bytes left than it declares, or grows too much.
    """
    if not 0 <= size <= max(MAX_BYTES, MAX_GROWTH * stored):
        raise ValueError(
            f"it declares {size} bytes and takes {stored}, as if made to fill the memory: save it "
            "without compression."
        )
    content = bytearray()
    while part := read(min(2**24, size + 1 - len(content))):
        content += part
    if len(content) != size:
        many = "more" if len(content) > size else f"{len(content)}, fewer"
        raise ValueError(f"it declares {size} bytes of values and has {many}.")
    return content


def open_picture(
    file: io.BytesIO | io.BufferedReader, *, formats: tuple[str, ...], max_pixels: int
) -> "Image.Image":
    """Opens a picture without unpacking it.

    Raises:
      ValueError: for another format, too many pixels, or more than 8 bits per channel. Pillow
        raises nearly anything else for a damaged file.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        picture = Image.open(file, formats=formats)
    except UnidentifiedImageError:
        raise ValueError(f"its image is neither {' nor '.join(formats)}.") from None
    if picture.height * picture.width > max_pixels:
        raise ValueError(
            f"its image is {picture.height} x {picture.width}, more than {max_pixels} pixels."
        )
    if picture.mode.startswith(("I", "F")):
        raise ValueError("its image has more than 8 bits per channel.")
    return picture


def unpack_picture(
    picture: "Image.Image", channels: int
) -> UInt8[np.ndarray, "height width channels"]:
    """Unpacks a picture as grey (1), RGB (3) or RGBA (4)."""
    if picture.mode != MODES[channels]:
        picture = picture.convert(MODES[channels])
    return np.asarray(picture).reshape(picture.height, picture.width, channels)
