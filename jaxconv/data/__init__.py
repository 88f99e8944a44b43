"""The data that a net learns from: arrays, TFDS sets, files, streams; and pictures to ask about.

The room may import `models`, `parallel`, `measure` and `_checks`; none of its files may import
this door.
"""

import os
from pathlib import Path

from jaxconv._checks import check_choice, check_positive
from jaxconv.data.arrays import Batch as Batch
from jaxconv.data.arrays import Dataset as Dataset
from jaxconv.data.arrays import Split as Split
from jaxconv.data.augment import Augment as Augment
from jaxconv.data.augment import compose as compose
from jaxconv.data.augment import erase as erase
from jaxconv.data.augment import warp as warp
from jaxconv.data.digits import prepare_digit as prepare_digit
from jaxconv.data.files import load_idx, load_npz
from jaxconv.data.files import read_image as read_image
from jaxconv.data.folders import load_folder
from jaxconv.data.mnist import bundled_mnist
from jaxconv.data.stream import Stream as Stream
from jaxconv.data.stream import StreamedDataset as StreamedDataset
from jaxconv.data.stream import open_streamed as open_streamed
from jaxconv.data.tfds import load as load_tfds

KINDS = ("mnist", "tfds:NAME", "npz:FILE", "idx:DIR", "folder:DIR")
MAX_SIDE = 4096


def load_dataset(
    name: str = "mnist",
    *,
    data_dir: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    test_split: float | None = None,
) -> Dataset:
    """Loads a data set by name. Nothing is ever downloaded.

    Args:
      name: `"mnist"`, the bundled set: 60,000 training and 10,000 test images, uint8
        `[28, 28, 1]`, in the order of `keras.datasets.mnist`; `"tfds:NAME"`, an image
        classification set that TFDS has already prepared on this disk; `"npz:FILE"`, arrays that
        `np.savez` has saved as `x_train`, `y_train`, `x_test` and `y_test`; `"idx:DIR"`, LeCun's
        four files; or `"folder:DIR"`, pictures in `DIR/train/CLASS` and `DIR/test/CLASS`, or in
        `DIR/CLASS` with a `test_split`.
      data_dir: where TFDS keeps its sets; its own default when None. For `"tfds:NAME"` alone.
      image_size: the side, or `(height, width)`, to which all pictures are resized. For
        `"folder:DIR"` alone, as `test_split` is.
      test_split: the share of each class, in (0, 1), that becomes the test split.

    Raises:
      ValueError: for an unknown name, an option that does not apply, a damaged file, or data that
        `Dataset.from_arrays` refuses.
      FileNotFoundError: if there is no such file or folder, or TFDS has not prepared the set; the
        message names the command.
      ModuleNotFoundError: for `"tfds:NAME"` without tensorflow-datasets, or `"folder:DIR"` without
        Pillow.

    Example:
      >>> data = load_dataset("mnist")
      >>> data.train.image.shape, str(data.train.image.dtype), data.train.label[:5].tolist()
      ((60000, 28, 28, 1), 'uint8', [5, 0, 4, 1, 9])

    Source: http://yann.lecun.com/exdb/mnist/ (CC BY-SA 3.0)
    """
    check_dataset(name, data_dir=data_dir, image_size=image_size, test_split=test_split)
    kind, _, where = name.partition(":")
    if kind == "mnist":
        return bundled_mnist()
    if kind == "tfds":
        return load_tfds(where, data_dir=data_dir)
    path = Path(os.path.expanduser(where))  # as no shell does after a colon
    if kind == "folder":
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        return load_folder(path, name, image_size=size, test_split=test_split)
    return load_npz(path, name) if kind == "npz" else load_idx(path, name)


def check_dataset(
    name: str,
    *,
    data_dir: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    test_split: float | None = None,
) -> None:
    """Refuses what `load_dataset` cannot load, as far as that shows without the disk.

    Raises:
      ValueError: for an unknown name, or an option that does not apply or is out of its range.

    Example:
      >>> check_dataset("mnist", image_size=32)
      Traceback (most recent call last):
      ValueError: image_size=32 is for 'folder:DIR', whose pictures it resizes, not for 'mnist'.
    """
    kind, _, where = name.partition(":")
    if not where or not any(x.startswith(f"{kind}:") for x in KINDS):
        check_choice("data set", name, KINDS)
    for option, value, owner, why in (
        ("data_dir", data_dir, "tfds:NAME", "where TFDS keeps its sets"),
        ("image_size", image_size, "folder:DIR", "whose pictures it resizes"),
        ("test_split", test_split, "folder:DIR", "which may have no test part"),
    ):
        if value is not None and not owner.startswith(f"{kind}:"):
            raise ValueError(f"{option}={value!r} is for {owner!r}, {why}, not for {name!r}.")
    if image_size is not None:
        for side in (image_size,) if isinstance(image_size, int) else image_size:
            check_positive("image_size", side)
            if side > MAX_SIDE:  # so large would all images be in memory
                raise ValueError(f"image_size must be at most {MAX_SIDE}, not {side}.")
    if test_split is not None and not 0 < test_split < 1:
        raise ValueError(f"test_split must be in (0, 1), not {test_split!r}.")
