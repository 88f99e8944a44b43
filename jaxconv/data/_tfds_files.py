"""Reads the files of a set that TFDS has prepared: its JSON, and the fields of its samples.

The files may come from anywhere, so TFDS itself does not read them: it imports the modules that
`features.json` names, and opens whatever format an image has. This reader imports nothing that a
file names, opens PNG and JPEG alone, and looks at an image's size before it unpacks it.
"""

import contextlib
import functools
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from jaxconv.data._guards import MODES, open_picture, unpack_picture
from jaxconv.data.arrays import IMAGE_DTYPES, MAX_CLASSES

MAX_PIXELS = 2**24
MAX_BYTES = 2**26
"""The most that a file of JSON or of class names may hold."""
MAX_NAME = 100
"""The most characters of a class' name."""
KINDS = {
    "features_dict.FeaturesDict": "featuresDict",
    "image_feature.Image": "image",
    "class_label_feature.ClassLabel": "classLabel",
    "scalar.Scalar": "tensor",
    "tensor_feature.Tensor": "tensor",
}
"""The classes of TFDS that are read, and the key of their settings."""
SHARDS = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
"""How TFDS names the files of records."""

Decode = Callable[[Any], Any]
"""Turns a field of a `tf.train.Example` into an array or a number."""


class SetFiles(NamedTuple):
    """What the files of a prepared set say, but for its records."""

    folder: Path
    full_name: str
    splits: Mapping[str, tuple[Sequence[int], int]]
    """For each split the number of samples in each of its files, and its bytes."""
    decoders: Mapping[str, Decode]
    """How to read the fields `image` and `label`."""
    num_classes: int | None
    class_names: tuple[str, ...] | None

    def paths(self, split: str) -> Iterator[Path]:
        """The files with the records of a split."""
        count, name = len(self.splits[split][0]), self.full_name.partition("/")[0]
        for i in range(count):
            path = self.folder / f"{name}-{split}.array_record-{i:05d}-of-{count:05d}"
            if not path.is_file():
                raise ValueError(f"There is no file {path}: the set is damaged.")
            yield path


def parse_name(name: str) -> tuple[str, str | None, str | None]:
    """The parts of `NAME[/CONFIG][:VERSION]`; refuses paths, and what TFDS looks up elsewhere."""
    match = re.fullmatch(r"(\w+)(?:/(\w[\w.-]*))?(?::(\d+\.\d+\.\d+))?", name)
    if match is None:
        raise ValueError(f"A TFDS set is named NAME[/CONFIG][:VERSION], not {name!r}.")
    return match[1], match[2], match[3]


def find_folder(name: str, data_dir: str | None) -> tuple[Path, bool]:
    """The folder of a set, of its newest version if none is named, and whether there is one.

    Raises:
      FileNotFoundError: if there are other versions alone.
    """
    stem, config, version = parse_name(name)
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    folder = root.expanduser() / stem
    if config is None and (default := folder / ".config" / "metadata.json").is_file():
        with _content(default) as content:
            config = parse_name(f"{stem}/{content['default_config_name']}")[1]
    folder /= config or ""
    found = {x.name: x for x in folder.glob("*.*.*") if re.fullmatch(r"\d+\.\d+\.\d+", x.name)}
    if version is None and found:
        version = max(found, key=lambda x: [int(number) for number in x.split(".")])
    if found and version not in found:
        raise FileNotFoundError(
            f"{folder} has no version {version} of the TFDS set, but {', '.join(sorted(found))}."
        )
    return folder / (version or ""), version in found


def read_set(folder: Path) -> SetFiles:
    """Reads the JSON files of a set, and the names of its classes.

    Raises:
      ValueError: if one is missing or damaged, or says what is not supported; it names the file.
    """
    with _content(folder / "features.json") as content:
        features = _settings("the set", content)[1]["features"]
        missing = [name for name in ("image", "label") if name not in features]
        if missing:
            raise ValueError(
                f"the set has no {' and no '.join(map(repr, missing))}: its features are "
                f"{sorted(features)}. Read it with TFDS and use Dataset.from_arrays."
            )
        decoders = {"image": _image_decoder(features["image"]), "label": _integer}
        label = _settings("its label", features["label"])[1]
        num_classes = int(label.get("numClasses", 0)) or None
        if num_classes is not None and num_classes > MAX_CLASSES:  # so large would the net be
            raise ValueError(f"it has {num_classes} classes, more than {MAX_CLASSES}.")
    with _content(folder / "dataset_info.json") as content:
        names = [content["name"], content.get("configName"), content["version"]]
        full_name = "/".join(name for name in names if name)
        if not re.fullmatch(r"\w+(/\w[\w.-]*)+", full_name):
            raise ValueError(f"its name is {full_name!r}.")
        if content.get("fileFormat") != "array_record":
            raise ValueError(
                "the set is not prepared as array_record, the format that can be read without "
                "TensorFlow: prepare it again with jaxconv.data.tfds.prepare and another "
                "data_dir."
            )
        splits = {}
        for split in content["splits"]:
            if (template := split.get("filepathTemplate", SHARDS)) != SHARDS:
                raise ValueError(f"its files are named {template!r}, not {SHARDS!r}.")
            lengths = [int(length) for length in split.get("shardLengths", [])]
            splits[split["name"]] = lengths, int(split.get("numBytes", 0))
        if not {"train", "test"} <= splits.keys():
            raise ValueError(
                f"the set has no train and test split, but {sorted(splits)}: read it with TFDS "
                "and use Dataset.from_arrays."
            )
    class_names = None
    if (path := folder / "label.labels.txt").is_file():
        with _content(path, bytes.decode) as content:
            class_names = tuple(filter(None, map(str.strip, content.split("\n"))))
            if len(class_names) != num_classes:
                raise ValueError(f"it has {len(class_names)} names for {num_classes} classes.")
            if len(longest := max(class_names, key=len)) > MAX_NAME:
                raise ValueError(f"it has a name of {len(longest)} characters: {longest[:20]!r}...")
    return SetFiles(folder, full_name, splits, decoders, num_classes, class_names)


@contextlib.contextmanager
def _content(path: Path, parse: Callable[[bytes], Any] = json.loads) -> Iterator[Any]:
    """Reads a file; an exception in the `with` block becomes a `ValueError` that names it."""
    try:
        if not path.is_file():
            raise ValueError("there is no such file: the set is damaged.")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ValueError(f"it has {size} bytes.")
        yield parse(path.read_bytes())
    except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
        reason = error if type(error) is ValueError else f"TFDS did not write it so: {error!r}."
        raise ValueError(f"{path}: {reason}") from error


def _settings(what: str, feature: Any) -> tuple[str, Any]:
    """The kind of a feature and its settings, if it is of a class that is known."""
    full = str(feature["pythonClassName"])
    kind = KINDS.get(full.removeprefix("tensorflow_datasets.core.features."))
    if kind is None:
        raise ValueError(
            f"{what} is of the class {full!r}, which is not known here and not imported. If you "
            "trust it, read the set with TFDS and use Dataset.from_arrays."
        )
    return kind, feature[kind]


def _image_decoder(feature: Any) -> Decode:
    kind, settings = _settings("its image", feature)
    shape = [int(size) for size in settings.get("shape", {}).get("dimensions", [])]
    dtypes = {dtype.name: dtype for dtype in IMAGE_DTYPES}
    if len(shape) == 3 and settings.get("dtype") in dtypes:
        dtype = dtypes[settings["dtype"]]
        if kind == "tensor" and settings.get("encoding", "none") == "none":
            return functools.partial(_tensor, shape, dtype)
        if kind == "image" and dtype == np.uint8 and shape[2] in MODES:
            return functools.partial(_picture, shape)
    raise ValueError(
        f"its image has the settings {settings}, which are not supported: read the set with TFDS "
        "and use Dataset.from_arrays."
    )


def _integer(field: Any) -> int:
    found = field.int64_list.value
    if len(found) != 1 or found[0] >= MAX_CLASSES:
        raise ValueError(f"its label is not one integer below {MAX_CLASSES}.")
    return found[0]


def _tensor(
    shape: Sequence[int], dtype: np.dtype, field: Any
) -> Shaped[np.ndarray, "height width channels"]:
    values = field.int64_list.value or field.float_list.value
    return np.array(values, dtype).reshape(shape)


def _picture(shape: Sequence[int], field: Any) -> Shaped[np.ndarray, "height width channels"]:
    """Unpacks a PNG or JPEG; in `shape` a height and a width may be -1, which is any size."""
    (content,) = field.bytes_list.value
    picture = open_picture(io.BytesIO(content), formats=("PNG", "JPEG"), max_pixels=MAX_PIXELS)
    size = picture.height, picture.width
    if any(wanted not in (-1, found) for wanted, found in zip(shape, size, strict=False)):
        raise ValueError(f"its image is {size[0]} x {size[1]}, not {shape[0]} x {shape[1]}.")
    return unpack_picture(picture, shape[2])
