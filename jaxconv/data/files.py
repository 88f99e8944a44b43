"""Reads pictures, and data sets of the user's own in one file or in LeCun's four.

The files may come from anywhere: reading them executes nothing and believes no declared size.
"""

import contextlib
import gzip
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped, UInt8

from jaxconv._checks import check_choice, check_installed
from jaxconv.data._guards import MODES, open_picture, read_declared, reading, unpack_picture
from jaxconv.data.arrays import Dataset

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
"""Pillow reads these by itself; for others, such as EPS, it starts programs."""
MAX_PIXELS = 2**26
"""The most pixels of a picture; the cameras of phones have up to 50 million."""
NAMES = ("x_train", "y_train", "x_test", "y_test")
"""Keras' names of the arrays in an `.npz` file."""
PARTS = (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1))
"""The beginnings of LeCun's file names, and the number of axes in each."""


def read_image(
    path: str | os.PathLike[str], size: tuple[int, int] | None = None, channels: int | None = None
) -> UInt8[np.ndarray, "height width channels"]:
    """Reads a picture as a viewer shows it: turned as its EXIF data say, the first of several.

    Args:
      path: a PNG, JPEG, GIF, BMP, WebP or TIFF file of at most 2²⁶ pixels.
      size: `(height, width)` to resize it to, by Pillow's bilinear filter, which averages where it
        shrinks. As in Keras, the picture is stretched if its aspect differs.
      channels: 1 for grey, 3 for RGB, 4 for RGBA; without it, as many as the picture has. What is
        transparent becomes white in a picture without an alpha channel.

    Returns:
      The pixels, 0 to 255.

    Raises:
      FileNotFoundError: if there is no such file.
      ModuleNotFoundError: without Pillow.
      ValueError: if the file is damaged, in another format, too large, or has more than 8 bits per
        channel.

    Example:
      >>> import tempfile
      >>> from PIL import Image
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     Image.new("L", (30, 20), 255).save(path := f"{folder}/white.png")
      ...     read_image(path).shape, read_image(path, (8, 8), 3).shape
      ((20, 30, 1), (8, 8, 3))

    Source: https://keras.io/api/data_loading/image/ (image_dataset_from_directory)
    """
    check_installed("run", "PIL")
    from PIL import Image, ImageOps

    if channels is not None:
        check_choice("number of channels", channels, MODES)
    with open_image(Path(path)) as picture:
        ImageOps.exif_transpose(picture, in_place=True)
        transparent = picture.has_transparency_data
        if channels is None:
            channels = 4 if transparent else 1 if is_grey(picture) else 3
        if transparent and channels != 4:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        if size is None:
            return unpack_picture(picture, channels)
        (height, width), picture = size, picture.convert(MODES[channels])
        return unpack_picture(picture.resize((width, height), Image.Resampling.BILINEAR), channels)


@contextlib.contextmanager
def open_image(path: Path) -> "Iterator[Image.Image]":
    """Opens a picture for a `with` block, where any exception becomes one that names the file.

    Raises:
      FileNotFoundError, ValueError: as `read_image`.
    """
    with reading(path), path.open("rb") as file:
        yield open_picture(file, formats=FORMATS, max_pixels=MAX_PIXELS)


def is_grey(picture: "Image.Image") -> bool:
    """Whether a picture that Pillow has opened has no colours."""
    return picture.mode in ("1", "L", "LA")


def load_npz(path: Path, name: str) -> Dataset:
    """Reads `x_train`, `y_train`, `x_test` and `y_test` from an `.npz` file, as Keras writes MNIST.

    Use it as `load_dataset("npz:FILE")`.

    Args:
      path: the file; its images are `[samples, height, width, channels]`, or grey without channels.
      name: the set's name in messages and results.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged, lacks one of the four, holds Python objects, or unpacks to far
        more than its size; and as `Dataset.from_arrays`.
    """
    with reading(path), zipfile.ZipFile(path) as archive:
        has = [x.removesuffix(".npy") for x in archive.namelist()]
        if missing := [x for x in NAMES if x not in has]:
            raise ValueError(
                f"it has no {', '.join(missing)}, but {_some(has)}: save the arrays with "
                f"np.savez(FILE, {', '.join(f'{x}=...' for x in NAMES)})."
            )
        arrays = [_read_array(archive, x, path.stat().st_size) for x in NAMES]
    return _dataset(arrays, name, path, " Mend the arrays, and save them again with np.savez.")


def load_idx(folder: Path, name: str) -> Dataset:
    """Reads LeCun's four files, `train-images-idx3-ubyte` and so on, with or without `.gz`.

    Use it as `load_dataset("idx:DIR")`. The names may have a point, `train-images.idx3-ubyte`. If a
    file is there with and without `.gz`, that without is read.

    Args:
      folder: where the files are.
      name: the set's name in messages and results.

    Raises:
      FileNotFoundError: if one of the files is missing.
      ValueError: if one is damaged, or has another length than it declares; and as
        `Dataset.from_arrays`.

    Source: http://yann.lecun.com/exdb/mnist/
    """
    arrays = [_read_idx(_find_idx(folder, stem, axes), axes) for stem, axes in PARTS]
    return _dataset(arrays, name, folder)


def _dataset(
    arrays: Sequence[Shaped[np.ndarray, "..."]], name: str, source: Path, remedy: str = ""
) -> Dataset:
    """Checks the four arrays of a file; grey images may lack the axis of channels."""
    images = [x[..., None] if x.ndim == 3 else x for x in arrays[::2]]
    try:
        return Dataset.from_arrays(images[0], arrays[1], images[1], arrays[3], name=name)
    except ValueError as error:
        raise ValueError(f"{source}: {error}{remedy}") from error


def _read_array(archive: zipfile.ZipFile, name: str, stored: int) -> Shaped[np.ndarray, "..."]:
    """Reads an array of an `.npz` file; its memory is filled by what is there, not declared."""
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is not compressed as np.savez_compressed does it.")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, by_column, dtype = np.lib.format.read_array_header_2_0(file)
        if dtype.hasobject:
            raise ValueError(
                f"{name} holds Python objects, which could execute code: save numbers, or texts "
                "with astype(str)."
            )
        size = math.prod(shape) * dtype.itemsize
        content = read_declared(file.read, size, stored)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_column else "C")


def _find_idx(folder: Path, stem: str, axes: int) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    for end in ("", ".gz"):
        for mark in "-.":
            if (path := folder / f"{stem}{mark}idx{axes}-ubyte{end}").is_file():
                return path
    has = _some(sorted(x.name for x in folder.iterdir()))
    raise FileNotFoundError(f"There is no file {folder / stem}-idx{axes}-ubyte[.gz], but {has}.")


def _read_idx(path: Path, axes: int) -> UInt8[np.ndarray, "..."]:
    with reading(path), (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        magic, wanted = file.read(4), bytes([0, 0, 8, axes])
        if magic != wanted:
            raise ValueError(f"it begins with {magic.hex()}, not with {wanted.hex()} as LeCun's.")
        shape = struct.unpack(f">{axes}I", file.read(4 * axes))
        content = read_declared(file.read, math.prod(shape), path.stat().st_size)
    return np.frombuffer(content, np.uint8).reshape(shape)


def _some(names: Sequence[str]) -> str:
    """Some of the names that are there."""
    more = ", ..." if len(names) > 10 else ""
    return f"{', '.join(map(repr, names[:10]))}{more}" if names else "nothing"
