"""Data sets as arrays in memory, checked when they are made.

Images stay uint8, or the float that they came in, until a step makes them the model's float.
"""

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Int32, Shaped

from jaxconv._checks import check_positive
from jaxconv.data.hints import (
    is_channels_first,
    label_hint,
    shape_hint,
    warn_of_labels,
    warn_of_scale,
)

Batch = Mapping[str, Array | np.ndarray]
"""The fields of a batch: `image` `[N, H, W, C]`, `label` `[N]`, and perhaps `mask` `[N]`."""
MAX_CLASSES = 2**20
IMAGE_DTYPES = [np.dtype(x) for x in ("uint8", jnp.bfloat16, "float16", "float32", "float64")]


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: `image` (uint8 or floating point) and `label` (int32)."""

    image: Shaped[np.ndarray, "samples height width channels"]
    label: Int32[np.ndarray, " samples"]

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, samples: slice) -> "Split":
        """Some of the samples, such as `data.train[:1000]`, without a copy."""
        if not isinstance(samples, slice):
            raise TypeError(f"Take samples by a slice, such as [:1000], not by {samples!r}.")
        return Split(self.image[samples], self.label[samples])

    def batch(self) -> dict[str, np.ndarray]:
        """The whole split as one batch: `{"image": ..., "label": ...}`."""
        return {"image": self.image, "label": self.label}

    @property
    def identity(self) -> str:
        """Identifies these samples by their content."""
        return sha256(self.image, self.label)


def sha256(*arrays: np.ndarray) -> str:
    """The SHA-256 of the shapes, dtypes and bytes of arrays.

    Example:
      >>> sha256(np.arange(3)) == sha256(np.arange(3.0))
      False
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """The train and test splits of a set, and a validation split once `split_validation` cuts one.

    Build one with `from_arrays`, which checks everything, or with `load_dataset`.
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    validation: Split | None = None
    class_names: tuple[str, ...] | None = None
    """The classes' names, where the set has them; a run's page shows them."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of one image."""
        height, width, channels = self.train.image.shape[1:]
        return height, width, channels

    @classmethod
    def from_arrays(
        cls,
        train_image: npt.ArrayLike,
        train_label: npt.ArrayLike,
        test_image: npt.ArrayLike,
        test_label: npt.ArrayLike,
        *,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "arrays",
    ) -> "Dataset":
        """Makes a data set from arrays and checks them.

        Args:
          train_image: `[samples, height, width, channels]`, uint8 (0 to 255; a step scales it to
            [0, 1]) or floating point (used as it is).
          train_label: `[samples]`, integers in `[0, num_classes)`.
          test_image: as `train_image`.
          test_label: as `train_label`.
          num_classes: the number of classes; by default that of their names, or the largest label
            plus one.
          class_names: the classes' names, in the order of their labels.
          name: the set's name in messages and results.

        Raises:
          ValueError: for a wrong rank or dtype, channels in front, lengths or image sizes that
            differ, labels out of range, NaN or infinite pixels, an empty split, names of another
            number of classes. The message quotes the bad value.

        Warns:
          UserWarning: for floating-point images that are not scaled, and for labels that count from
            1, that are all the same, or that the training split lacks.

        Example:
          >>> image, label = np.zeros((4, 28, 28, 1), np.uint8), np.array([0, 1, 2, 1])
          >>> data = Dataset.from_arrays(image, label, image, label)
          >>> data.num_classes, data.input_shape, len(data.train)
          (3, (28, 28, 1), 4)
        """
        labels = [np.asarray(label) for label in (train_label, test_label)]
        if class_names is not None:
            num_classes = num_classes or len(class_names)
            if len(class_names) != num_classes:
                raise ValueError(
                    f"There are {len(class_names)} class_names for {num_classes} classes."
                )
        if num_classes is None:
            found = [int(x.max()) for x in labels if x.size and x.dtype.kind in "iu"]
            num_classes = 1 + max([0, *found])  # negative ones are refused below
        check_positive("num_classes", num_classes)
        if num_classes > MAX_CLASSES:  # JAX would make a net so large, and wait for ever
            raise ValueError(f"{num_classes} classes are too many: {MAX_CLASSES} are the most.")
        train = check_split("train", np.asarray(train_image), labels[0], num_classes)
        test = check_split("test", np.asarray(test_image), labels[1], num_classes)
        for aspect, a, b in (
            ("shape", train.image.shape[1:], test.image.shape[1:]),
            ("dtype", train.image.dtype, test.image.dtype),
        ):
            if a != b:
                raise ValueError(f"Train and test images differ in {aspect}: {a} and {b}.")
        warn_of_labels(train.label, test.label)
        warn_of_scale(train.image, stacklevel=3)
        names = None if class_names is None else tuple(class_names)
        return cls(name, train, test, num_classes, class_names=names)

    def split_validation(self, fraction: float) -> "Dataset":
        """Cuts the last part of the training split off for validation, before any shuffle.

        Args:
          fraction: share of the training samples, in [0, 1). The cut is at
            `floor(samples · (1 - fraction))`, as Keras' `validation_split` makes it. With 0 the
            data set stays whole.

        Raises:
          ValueError: if the fraction is not in [0, 1) or leaves one of the two parts empty.

        Example:
          >>> import jaxconv
          >>> data = jaxconv.load_dataset("mnist").split_validation(0.1)
          >>> len(data.train), len(data.validation)
          (54000, 6000)

        Source: https://keras.io/api/models/model_training_apis/ (fit, validation_split)
        """
        if self.validation is not None:
            raise ValueError("A validation part was cut off already: split the whole set once.")
        cut = validation_cut(len(self.train), fraction)
        if cut == len(self.train):
            return self
        return dataclasses.replace(self, train=self.train[:cut], validation=self.train[cut:])


def validation_cut(samples: int, fraction: float) -> int:
    """How many samples are left to train where Keras' `validation_split` cuts.

    Raises:
      ValueError: as `Dataset.split_validation`.

    Example:
      >>> validation_cut(60_000, 0.1)
      54000
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"The validation fraction must be in [0, 1), not {fraction!r}.")
    cut = math.floor(samples * (1 - fraction))
    if fraction and not 0 < cut < samples:
        raise ValueError(
            f"A validation fraction of {fraction!r} leaves {cut} of {samples} samples to train and "
            f"{samples - cut} to validate: both need at least one."
        )
    return cut


def check_split(name: str, image: np.ndarray, label: np.ndarray, num_classes: int) -> Split:
    """Makes a split from arrays and checks them.

    Raises:
      ValueError: as `Dataset.from_arrays`, with the split's name.

    Example:
      >>> check_split("train", np.zeros((1, 28, 28, 1), np.uint8), np.array([10]), 10)
      Traceback (most recent call last):
      ValueError: The train label at index 0 is 10, outside [0, 10).
    """
    if image.ndim != 4 or is_channels_first(image.shape):
        raise ValueError(
            f"The {name} images must be [samples, height, width, channels], not {image.shape}"
            f"{shape_hint(image.shape)}."
        )
    image = image.astype(image.dtype.newbyteorder("="), copy=False)
    if image.dtype not in IMAGE_DTYPES:
        known = ", ".join(map(str, IMAGE_DTYPES))
        hint = ""
        if image.dtype.kind in "iub" and image.size and 0 <= image.min() <= image.max() <= 255:
            hint = ": convert them with image.astype(np.uint8)"
        raise ValueError(f"The {name} images must be one of {known}, not {image.dtype}{hint}.")
    if label.ndim != 1 or label.dtype.kind not in "iu":
        raise ValueError(
            f"The {name} labels must be integers [samples], not {label.dtype} {label.shape}"
            f"{label_hint(label)}."
        )
    if len(image) != len(label):
        raise ValueError(f"The {name} split has {len(image)} images and {len(label)} labels.")
    if image.size == 0:
        raise ValueError(f"The {name} split is empty: its images have shape {image.shape}.")
    outside = np.flatnonzero((label < 0) | (label >= num_classes))
    if outside.size:
        index = outside[0]
        from_one = ": if they count from 1, pass label - 1" if label.min() == 1 else ""
        raise ValueError(
            f"The {name} label at index {index} is {label[index]}, outside [0, {num_classes})"
            f"{from_one}."
        )
    if image.dtype != np.uint8:
        finite = np.isfinite(image)
        if not finite.all():
            index = tuple(np.argwhere(~finite)[0].tolist())
            raise ValueError(f"The {name} images hold {image[index]} at index {index}.")
    return Split(image, label.astype(np.int32))
