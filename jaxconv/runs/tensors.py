"""Arrays and a JSON object as one safetensors file: whole or absent, and each byte checked.

Other programs read the arrays with safetensors. The file's metadata have two entries: `jaxconv` is
the object, and `sha256` the sum of the file with 64 zeros in the place of this sum.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxconv.runs.files import replace_file

MAX_HEADER = 2**26
"""The most bytes of a file beside its arrays."""
DTYPES = {
    "BOOL": "bool", "BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
}  # fmt: skip
"""The dtypes that are read, by their names in the format."""
_SUM, _ZEROS = b'"sha256":"', b"0" * 64


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray], content: Mapping[str, Any]) -> None:
    """Writes a file, and returns once it is on the disk and survives a power failure.

    Args:
      path: the file; its folder must exist.
      arrays: arrays of any shape, by name.
      content: a JSON object; NaN and infinity stay, as Python's `json` writes them.

    Raises:
      OSError: if the file cannot be written; what was there before is still there.
      ValueError: if the object is too large, or an array's dtype is not one of `DTYPES`.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = Path(folder, "a.safetensors")
      ...     write_tensors(path, {"label": np.arange(3)}, {"seed": 0})
      ...     read_header(path)[1], read_tensors(path)
      ({'seed': 0}, {'label': array([0, 1, 2])})

    Source: https://huggingface.co/docs/safetensors
    """
    from safetensors.numpy import save

    for name, x in arrays.items():
        if x.dtype.name not in DTYPES.values():
            raise ValueError(f"{name} has the dtype {x.dtype}, which {path.suffix} cannot hold.")
    text = json.dumps(content)
    if len(text) > MAX_HEADER // 4:
        raise ValueError(f"what {path.name} keeps beside its arrays would have {len(text)} bytes.")
    # safetensors writes an array's memory as it lies there.
    plain = {name: np.asarray(x, order="C") for name, x in arrays.items()}
    file = save(plain, {"jaxconv": text, "sha256": _ZEROS.decode()})
    digest = hashlib.sha256(file).hexdigest().encode()
    replace_file(path, file.replace(_SUM + _ZEROS, _SUM + digest, 1), durable=True)


def read_header(path: Path) -> tuple[dict[str, jax.ShapeDtypeStruct], dict[str, Any]]:
    """Checks each byte of a file, and reads its arrays' shapes and its object, but no array.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is not as `write_tensors` wrote it.
    """
    from safetensors import SafetensorError, safe_open

    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a file.")
    try:
        _check_sum(path)
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {
                name: jax.ShapeDtypeStruct(x.get_shape(), DTYPES[x.get_dtype()])
                for name, x in arrays.items()
            }
            return shapes, dict(json.loads(file.metadata()["jaxconv"]))
    except FileNotFoundError:
        raise
    except (
        KeyError, OSError, OverflowError, RecursionError, SafetensorError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise ValueError(f"{path} is damaged: {error}") from error


def _check_sum(path: Path) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER:
            raise ValueError(f"its header would have {length} bytes.")
        header = file.read(length)
        place = header.find(_SUM) + len(_SUM)
        file.seek(0)
        found = hashlib.sha256(file.read(8 + place) + _ZEROS)
        expected = file.read(len(_ZEROS))
        while part := file.read(2**20):
            found.update(part)
    if found.hexdigest().encode() != expected:
        raise ValueError("its bytes are not those that jaxconv wrote.")


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a file that `read_header` has checked; they are as large as the file."""
    from safetensors import deserialize

    return {
        name: np.frombuffer(x["data"], DTYPES[x["dtype"]]).reshape(x["shape"])
        for name, x in deserialize(path.read_bytes())
    }
