"""Reads TFDS image sets without TensorFlow, and prepares them; the bundled MNIST is one of them."""

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from jaxconv._checks import check_choice, check_installed
from jaxconv.data.arrays import Dataset
from jaxconv.data.mnist import mnist_builder

MNIST_BUILDER = "jaxconv_mnist"


def load(name: str, *, data_dir: str | None = None) -> Dataset:
    """Reads the `train` and `test` splits of a prepared TFDS set into memory.

    Use it as `load_dataset("tfds:NAME")`. The order is TFDS' own, which for most sets is a fixed
    shuffle of the original one. The set must be prepared as array_record, which can be read without
    TensorFlow; nothing is downloaded.

    Args:
      name: a TFDS name, `"fashion_mnist"`, `"cifar10:3.0.2"`, ..., with features `image` (of one
        fixed size) and `label`.
      data_dir: where TFDS keeps its sets; its own default when None.

    Raises:
      ModuleNotFoundError: without tensorflow-datasets.
      FileNotFoundError: if the set is not prepared; the message names the command that does it.
      ValueError: if the set is unknown, is prepared in another format, has images of several sizes,
        or lacks `image`, `label`, a train or a test split.
    """
    with _quiet():
        builder = _prepared(name, data_dir)
        parts = [Source(name, split, data_dir, builder=builder) for split in ("train", "test")]
        arrays = [array for part in parts for array in part.read(range(len(part))).values()]
        return Dataset.from_arrays(*arrays, num_classes=parts[0].num_classes, name=f"tfds:{name}")


class Source:
    """One split of a prepared TFDS set, whose samples are read on request.

    It can be pickled for other processes: each opens the files itself.

    Args:
      name: as in `load`.
      split: `"train"` or `"test"`.
      data_dir: as in `load`.
      builder: the set's TFDS builder, if there is one already.

    Raises:
      ModuleNotFoundError, FileNotFoundError, ValueError: as `load`.
    """

    def __init__(
        self, name: str, split: str, data_dir: str | None = None, *, builder: Any = None
    ) -> None:
        self.name, self.split, self._data_dir = name, split, data_dir
        with _quiet():
            builder = builder or _prepared(name, data_dir)
            try:
                self._rows = builder.as_data_source(split)
            except NotImplementedError as error:
                raise ValueError(
                    f"The TFDS set in {builder.data_path} is not prepared as array_record, the "
                    "format that can be read without TensorFlow: prepare it again with "
                    "jaxconv.data.tfds.prepare and another data_dir."
                ) from error
            self._rows[0]  # decoding prints its notes now, while they are silenced
        info = builder.info.splits[split]
        self.num_classes: int | None = getattr(builder.info.features["label"], "num_classes", None)
        self.identity = f"{builder.info.full_name} {split} {info.shard_lengths} {info.num_bytes}"
        """Identifies this split without reading it: name, version, counts, bytes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Source, (self.name, self.split, self._data_dir)

    def __len__(self) -> int:
        return len(self._rows)

    def read(
        self, rows: Sequence[int] | Int[np.ndarray, " samples"]
    ) -> dict[str, Shaped[np.ndarray, "samples ..."]]:
        """Reads the fields `image` and `label` of these samples.

        Args:
          rows: the samples' indices.

        Returns:
          `image` `[samples, height, width, channels]` and `label` `[samples]`.

        Raises:
          ValueError: if their images differ in size.
        """
        image, label = [], []
        for start in range(0, len(rows), 1000):
            part = [int(row) for row in rows[start : start + 1000]]
            for example in self._rows.__getitems__(part):
                image.append(example["image"])
                label.append(example["label"])
        shapes = {x.shape for x in image}
        if len(shapes) > 1:
            raise ValueError(
                f"The {self.split} images of the TFDS set {self.name!r} have {len(shapes)} sizes, "
                f"e.g. {sorted(shapes)[:3]}: resize them yourself and use Dataset.from_arrays."
            )
        return {"image": np.stack(image), "label": np.asarray(label)}


def _prepared(name: str, data_dir: str | None) -> Any:
    builder = _builder(name, data_dir)
    if not builder.is_prepared():
        option = f", data_dir={data_dir!r}" if data_dir else ""
        needs = "" if name == MNIST_BUILDER else " (needs the network, some sets TensorFlow)"
        raise FileNotFoundError(
            f"The TFDS set {name!r} is not prepared in {builder.data_path}. Prepare it with\n"
            f'  python -c "from jaxconv.data import tfds; tfds.prepare({name!r}{option})"\n'
            f"{needs.strip()}{', or ' if needs else 'or '}give the data_dir it is in."
        )
    features, splits = builder.info.features, builder.info.splits
    missing = [feature for feature in ("image", "label") if feature not in (features or {})]
    if missing:
        raise ValueError(
            f"The TFDS set {name!r} has no {' and no '.join(map(repr, missing))}: its features "
            f"are {sorted(features or {})}. Read it with TFDS and use Dataset.from_arrays."
        )
    if not {"train", "test"} <= set(splits):
        raise ValueError(
            f"The TFDS set {name!r} has no train and test split, but {sorted(splits)}: "
            "read it with TFDS and use Dataset.from_arrays."
        )
    return builder


def prepare(name: str = MNIST_BUILDER, *, data_dir: str | None = None) -> Path:
    """Prepares a set on disk as array_record and returns its folder.

    `"jaxconv_mnist"` is the bundled MNIST in its original order; it needs neither TensorFlow nor
    the network. TFDS' own `download_and_prepare` prepares any other set.

    Args:
      name: a TFDS name.
      data_dir: where TFDS keeps its sets; its own default when None.

    Raises:
      ModuleNotFoundError: without tensorflow-datasets, or without TensorFlow if the set needs it.
      ConnectionError: if the set cannot be downloaded.
      ValueError: if TFDS does not know the set.
    """
    with _quiet():
        builder = _builder(name, data_dir, file_format="array_record")
    import requests
    from tensorflow_datasets.core.download import downloader

    downloader.MAX_RETRIES = 2  # its 10 take minutes where there is no network
    try:
        builder.download_and_prepare()
    except requests.RequestException as error:
        raise ConnectionError(
            f"The TFDS set {name!r} cannot be downloaded ({error}): prepare it on a machine with "
            "network access, and copy its folder here."
        ) from error
    except ImportError as error:
        raise ModuleNotFoundError(
            f"Preparing {name!r} needs a package that is missing ({str(error).splitlines()[0]}). "
            "If it is TensorFlow: pip install tensorflow"
        ) from error
    return Path(builder.data_path)


def tensorflow_installed() -> bool:
    """Whether TensorFlow is installed; this does not import it."""
    return importlib.util.find_spec("tensorflow") is not None


def _builder(name: str, data_dir: str | None, **options: Any) -> Any:
    check_installed("tfds")
    import tensorflow_datasets as tfds

    mnist_builder()
    try:
        return tfds.builder(name, data_dir=data_dir, **options)
    except tfds.core.DatasetNotFoundError:
        check_choice("TFDS set", name, tfds.list_builders(with_community_datasets=False))
        raise
    except AssertionError as error:  # a version that TFDS does not have
        raise ValueError(f"TFDS does not have the set {name!r}: {error}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps absl's notes on probed paths and on OpenCV off stderr; nobody needs them."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
