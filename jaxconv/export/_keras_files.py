"""Reads the files of Keras 3: HDF5 files of weights, and `.keras` archives with one inside.

The files may come from anywhere. The reader executes nothing in them, follows no link, and checks
how much an archive unpacks to before it unpacks it.
"""

import contextlib
import io
import itertools
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxconv._checks import check_installed

BATCH_NORM = ("scale", "bias", "mean", "var")
"""Flax' names of what Keras calls gamma, beta, moving mean and moving variance, in its order."""


class Layer(NamedTuple):
    """A layer with weights, in a model or in a file.

    Its arrays are `kernel` and, if there is one, `bias`, or those of BatchNorm: anything with a
    shape and a dtype.
    """

    path: tuple[str, ...]
    arrays: Mapping[str, Any]

    @property
    def name(self) -> str:
        return "/".join(self.path)


@contextlib.contextmanager
def open_weights(path: Path) -> Iterator[Any]:
    """Opens the HDF5 file at a path, or the one in the `.keras` archive there.

    An unexpected exception while the file is in use becomes a `ValueError` about a damaged file.
    """
    h5py = import_h5py()
    if not path.name.endswith((".weights.h5", ".keras")):
        raise ValueError(
            f"Weights of Keras 3 are in NAME.weights.h5 or NAME.keras, not in {path.name!r}: write "
            "them with model.save_weights('NAME.weights.h5')."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with h5py.File(_unzipped(path) if path.suffix == ".keras" else path, "r") as file:
            yield file
    except Exception as error:  # h5py, zipfile and json raise nearly anything on a damaged file
        if type(error) in (ValueError, PermissionError, BlockingIOError, MemoryError):
            raise  # our own message, or no fault of the file
        raise ValueError(
            f"{path} cannot be read ({error}): it is truncated, damaged or not such a file. Write "
            "it anew with Keras 3."
        ) from error


def stored_layers(file: Any, path: Path) -> dict[str, Layer]:
    """The layers with weights in an open `h5py.File` by their group, such as `conv2d_1`.

    Functional and sequential models keep all groups in `layers/`; the name of a group elsewhere
    begins with `/`. The optimizer's state is left out, and links are not followed.
    """
    if "layer_names" in file.attrs or "model_weights" in set(file):  # follows no link
        raise ValueError(
            f"{path} has the layout of Keras 2: load it in Keras and write it anew with "
            "model.save_weights('NAME.weights.h5')."
        )
    layers: dict[str, Layer] = {}

    def visit(name: str, item: Any) -> None:
        if name.startswith("optimizer/") or not hasattr(item, "shape"):
            return
        holder, _, index = name.rpartition("/")
        group = f"/{holder.removesuffix('/vars')}".removeprefix("/layers/")
        names = BATCH_NORM if group.startswith("batch_normalization") else ("kernel", "bias")
        key = dict(zip("0123", names, strict=False)).get(index, index)
        layer = layers.get(group, Layer((str(item.parent.attrs.get("name", group)),), {}))
        layers[group] = layer._replace(arrays={**layer.arrays, key: item})

    file.visititems(visit)
    if all(group.startswith("/") for group in layers):
        raise ValueError(
            f"{path} holds no layer with weights where functional and sequential models of Keras 3 "
            "keep them: write it with model.save_weights('NAME.weights.h5')."
        )
    return layers


def is_bfloat16(array: Any) -> bool:
    """Whether an array is bfloat16, or a dataset: HDF5 has no such type, so Keras marks it."""
    mark = getattr(array, "attrs", {}).get("dtype") == "bfloat16" and array.dtype.itemsize == 2
    return array.dtype == jnp.bfloat16 or mark


def import_h5py() -> Any:
    """The module h5py, or an error with the command that installs it."""
    check_installed("keras")
    import h5py

    return h5py


def _unzipped(path: Path) -> io.BytesIO:
    """The HDF5 file in a `.keras` archive, if its net is a chain with channels last."""
    with zipfile.ZipFile(path) as archive:
        size, limit = sum(x.file_size for x in archive.infolist()), 100 * path.stat().st_size
        if size > limit:  # real weights hardly shrink: this file is made to fill the memory
            raise ValueError(f"{path} unpacks to {size:,} bytes, over {limit:,}: it is not read.")
        net = json.loads(archive.read("config.json"))
        layers = net["config"].get("layers", [])
        _check_chain(path, net["class_name"], layers, net["config"].get("output_layers"))
        for layer in layers:
            if layer["config"].get("data_format") == "channels_first":
                raise ValueError(
                    f"{path}: layer {layer['config']['name']!r} has its channels first, but images "
                    "are [batch, height, width, channels] here: build the net with channels last."
                )
        return io.BytesIO(archive.read("model.weights.h5"))  # checks its checksum


def _check_chain(path: Path, kind: str, layers: Sequence[Any], output_layers: Any) -> None:
    """Refuses a net whose layers do not stand in one row, from one input to one output."""
    if kind == "Sequential":
        return
    if kind != "Functional":
        raise ValueError(
            f"{path} holds a net of the class {kind!r}, whose own code joins its layers: only "
            "Sequential and Functional nets are read."
        )
    sources = {layer["name"]: _sources(layer["inbound_nodes"]) for layer in layers}
    used = Counter(itertools.chain(*sources.values()))
    inputs = [name for name, x in sources.items() if not x]
    outputs = _sources(output_layers)
    joints = [name for name, x in sources.items() if len(x) > 1 or used[name] > 1]
    if joints or len(inputs) > 1 or len(outputs) > 1:
        raise ValueError(
            f"{path} holds a net that is no chain, and only chains are read: its inputs are "
            f"{inputs}, its outputs {outputs}, it branches at or repeats {joints or 'no layer'}."
        )


def _sources(value: Any) -> list[str]:
    """The layers whose tensors a part of a config refers to, each time as `[NAME, call, index]`."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return []
    if len(value) == 3 and isinstance(value[0], str) and isinstance(value[1], int):
        return [value[0]]
    return [name for part in value for name in _sources(part)]
