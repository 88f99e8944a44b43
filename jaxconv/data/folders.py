"""Reads a folder of pictures, in which each class has its own folder."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxconv._checks import check_installed
from jaxconv.data.arrays import Dataset
from jaxconv.data.files import is_grey, open_image, read_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")

Classes = dict[str, list[Path]]
"""The pictures of each class, by its name."""


def load_folder(
    folder: Path,
    name: str,
    *,
    image_size: tuple[int, int] | None = None,
    test_split: float | None = None,
) -> Dataset:
    """Reads pictures from `train/CLASS/` and `test/CLASS/`, or from `CLASS/`, into memory.

    Use it as `load_dataset("folder:DIR")`. The classes are the names of their folders, sorted. The
    images are grey if all pictures are, and otherwise RGB. The samples are in the order of a hash
    of `CLASS/FILE`, which mixes the classes and is the same everywhere. Hidden files are skipped;
    others that are not pictures are left out, and a line is printed that names them.

    Args:
      folder: the folder.
      name: the set's name in messages and results.
      image_size: `(height, width)` to resize every picture to, as `read_image` does it.
      test_split: where there are no folders `train` and `test`: the share of each class, rounded,
        that becomes the test split, at least one picture. The hash chooses them.

    Raises:
      FileNotFoundError: if there is no such folder.
      ModuleNotFoundError: without Pillow.
      ValueError: if a class is missing in `train` or `test`, is alone, has no pictures or a name
        that cannot be printed; if a picture is damaged or differs in size from the first one; or
        if `test_split` is missing, or not needed.
    """
    check_installed("run", "PIL")
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    parts = {x.name.lower(): x for x in _visible(folder) if x.is_dir()}
    left_out: list[Path] = []
    if {"train", "test"} <= parts.keys():
        if test_split is not None:
            raise ValueError(f"{folder} has a test folder: leave test_split out.")
        left_out += [x for x in _visible(folder) if x.name.lower() not in ("train", "test")]
        train, test = (_classes(parts[part], left_out) for part in ("train", "test"))
        if lonely := sorted(train.keys() ^ test.keys()):
            has, lacks = ("train", "test") if lonely[0] in train else ("test", "train")
            raise ValueError(
                f"{folder}: only {has} has the class {lonely[0]!r}, and {lacks} lacks it: both "
                "need a folder for each class."
            )
    else:
        classes = _classes(folder, left_out)
        if test_split is None:
            raise ValueError(
                f"{folder} has no folders train and test, but {', '.join([*classes][:10])}: give "
                "the share of the pictures to test on, such as test_split=0.2 (--test-split 0.2)."
            )
        train, test = _split(classes, test_split)
    if left_out:
        some = ", ".join(repr(str(x.relative_to(folder))) for x in left_out[:3])
        more = ", ..." if len(left_out) > 3 else ""
        print(f"{name}: left out as no picture of a class ({len(left_out)}): {some}{more}")
    files = [(path, label) for part in (train, test) for path, label in _ordered(part)]
    images = _read([path for path, _ in files], image_size)
    labels, cut = np.array([label for _, label in files]), sum(map(len, train.values()))
    return Dataset.from_arrays(
        images[:cut], labels[:cut], images[cut:], labels[cut:], class_names=[*train], name=name
    )


def _visible(folder: Path) -> list[Path]:
    """What is in a folder, sorted by name, but for what is hidden."""
    return sorted((x for x in folder.iterdir() if x.name[0] != "."), key=lambda x: x.name)


def _classes(folder: Path, left_out: list[Path]) -> Classes:
    """Finds the classes; adds to `left_out` what is neither a class nor one's picture."""
    found: Classes = {}
    for entry in _visible(folder):
        if not entry.is_dir():
            left_out.append(entry)
            continue
        found[entry.name] = []
        for path in _visible(entry):
            known = path.suffix.lower() in SUFFIXES and path.is_file()
            (found[entry.name] if known else left_out).append(path)
        if not entry.name.isprintable():  # the page of a run could not have it
            raise ValueError(f"{folder} has the class {entry.name!r}: rename its folder.")
        if not found[entry.name]:
            raise ValueError(
                f"{entry} has no pictures ({', '.join(SUFFIXES)}): they belong in DIR/CLASS, or in "
                "DIR/train/CLASS and DIR/test/CLASS."
            )
    if len(found) < 2:
        has = f"one class alone, {next(iter(found))!r}" if found else "no folders"
        raise ValueError(f"{folder} has {has}: make a folder for each class.")
    return found


def _hash(path: Path) -> bytes:
    return hashlib.sha256(os.fsencode(f"{path.parent.name}/{path.name}")).digest()


def _split(classes: Mapping[str, Sequence[Path]], share: float) -> tuple[Classes, Classes]:
    """Parts every class by the hashes of its pictures."""
    train, test = {}, {}
    for name, paths in classes.items():
        if len(paths) < 2:
            raise ValueError(
                f"{paths[0].parent} has one picture: a class needs one to train and one to test."
            )
        cut = min(max(round(len(paths) * share), 1), len(paths) - 1)
        ordered = sorted(paths, key=_hash)
        train[name], test[name] = ordered[cut:], ordered[:cut]
    return train, test


def _ordered(classes: Classes) -> list[tuple[Path, int]]:
    """Pictures with their labels in the order of their hashes."""
    files = [(path, label) for label, paths in enumerate(classes.values()) for path in paths]
    return sorted(files, key=lambda x: _hash(x[0]))


def _read(
    paths: Sequence[Path], size: tuple[int, int] | None
) -> UInt8[np.ndarray, "samples height width channels"]:
    channels = 1 if all(map(_is_grey, paths)) else 3
    images = np.empty((0, 0, 0, 0), np.uint8)
    for i, path in enumerate(paths):
        image = read_image(path, size, channels)
        if i == 0:
            images = np.empty((len(paths), *image.shape), np.uint8)
        elif image.shape != images.shape[1:]:
            a, b = (f"{x.shape[0]} x {x.shape[1]}" for x in (images[0], image))
            raise ValueError(
                f"The pictures differ in size: {paths[0]} is {a}, {path} is {b}. Resize all, such "
                "as with image_size=64 (--image-size 64)."
            )
        images[i] = image
    return images


def _is_grey(path: Path) -> bool:
    with open_image(path) as picture:
        return is_grey(picture)
