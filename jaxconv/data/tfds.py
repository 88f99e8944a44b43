"""Reads TFDS image sets without TensorFlow, and prepares them; the bundled MNIST is one of them.

A set may come from anywhere: reading it executes nothing that its files name.
"""

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from jaxconv._checks import check_choice, check_installed
from jaxconv.data._guards import first_line
from jaxconv.data._tfds_files import find_folder, parse_name, read_set
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
        fixed size, in PNG or JPEG) and `label`.
      data_dir: where TFDS keeps its sets; its own default when None.

    Raises:
      ModuleNotFoundError: without tensorflow-datasets.
      FileNotFoundError: if the set is not prepared; the message names the command that does it.
      ValueError: if the set is unknown or damaged, is prepared in another format, has images of
        several sizes or features of classes that TFDS does not have, or lacks `image`, `label`, a
        train or a test split.
    """
    parts = [Source(name, split, data_dir) for split in ("train", "test")]
    arrays = [array for part in parts for array in part.read(range(len(part))).values()]
    return Dataset.from_arrays(
        *arrays,
        num_classes=parts[0].num_classes,
        class_names=parts[0].class_names,
        name=f"tfds:{name}",
    )


class Source:
    """One split of a prepared TFDS set, whose samples are read on request.

    It can be pickled for other processes: each opens the files itself.

    Args:
      name: as in `load`.
      split: `"train"` or `"test"`.
      data_dir: as in `load`.

    Raises:
      ModuleNotFoundError, FileNotFoundError, ValueError: as `load`.
    """

    def __init__(self, name: str, split: str, data_dir: str | None = None) -> None:
        check_installed("tfds")
        from array_record.python.array_record_data_source import ArrayRecordDataSource
        from tensorflow_datasets.proto import tf_example_pb2

        self.name, self.split, self._data_dir = name, split, data_dir
        self._parse = tf_example_pb2.Example.FromString  # pyright: ignore[reportAttributeAccessIssue]
        self._files = files = read_set(_find(name, data_dir))
        lengths, size = files.splits[split]
        if not any(lengths):
            raise ValueError(f"{files.folder}: the {split} split has no samples.")
        paths = [str(path) for path in files.paths(split)]
        try:
            self._rows = ArrayRecordDataSource(paths)
        except RuntimeError as error:
            raise ValueError(
                f"{files.folder}: the {split} split cannot be read: {first_line(error)}"
            ) from error
        if len(self._rows) != sum(lengths):
            raise ValueError(
                f"{files.folder}: the {split} split has {len(self._rows)} samples, where "
                f"dataset_info.json says {sum(lengths)}."
            )
        self.num_classes, self.class_names = files.num_classes, files.class_names
        self.identity = f"{files.full_name} {split} {lengths} {size}"
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
          ValueError: if their images differ in size, or a sample is damaged.
        """
        found: dict[str, list[Any]] = {name: [] for name in self._files.decoders}
        for start in range(0, len(rows), 1000):
            part = [int(row) for row in rows[start : start + 1000]]
            place = "a record"
            try:
                for row, record in zip(part, self._rows.__getitems__(part), strict=True):
                    place = f"sample {row}"
                    fields = self._parse(record).features.feature
                    for name, decode in self._files.decoders.items():
                        found[name].append(decode(fields[name]))
            except Exception as error:  # array_record, protobuf and Pillow raise nearly anything
                raise ValueError(
                    f"{self._files.folder}: {place} of the {self.split} split cannot be read: "
                    f"{first_line(error)}"
                ) from error
        shapes = {x.shape for x in found["image"]}
        if len(shapes) > 1:
            raise ValueError(
                f"The {self.split} images of the TFDS set {self.name!r} have {len(shapes)} sizes, "
                f"e.g. {sorted(shapes)[:3]}: resize them yourself and use Dataset.from_arrays."
            )
        return {"image": np.stack(found["image"]), "label": np.asarray(found["label"])}


def _find(name: str, data_dir: str | None) -> Path:
    folder, exists = find_folder(name, data_dir)
    if not exists:
        _check_known(name)
        option = f", data_dir={data_dir!r}" if data_dir else ""
        needs = "" if name == MNIST_BUILDER else " (needs the network, some sets TensorFlow)"
        raise FileNotFoundError(
            f"The TFDS set {name!r} is not prepared in {folder}. Prepare it with\n"
            f'  python -c "from jaxconv.data import tfds; tfds.prepare({name!r}{option})"\n'
            f"{needs.strip()}{', or ' if needs else 'or '}give the data_dir it is in."
        )
    return folder


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
    check_installed("tfds")
    import requests
    import tensorflow_datasets as tfds
    from google.protobuf import json_format
    from tensorflow_datasets.core.download import downloader

    stem, config, version = parse_name(name)
    _check_known(stem)
    options = {"config": config, "version": version, "file_format": "array_record"}
    given = {key: value for key, value in options.items() if value is not None}
    try:
        with _quiet():  # not by `tfds.builder`: it believes a set that is there
            builder = tfds.builder_cls(stem)(data_dir=data_dir, **given)
    except (AssertionError, json_format.ParseError) as error:
        raise ValueError(f"TFDS cannot prepare the set {name!r}: {first_line(error)}") from error
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


def _check_known(name: str) -> None:
    import tensorflow_datasets as tfds

    mnist_builder()
    known = tfds.list_builders(with_community_datasets=False)
    check_choice("TFDS set", parse_name(name)[0], known)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps absl's notes on probed paths off stderr; nobody needs them."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
