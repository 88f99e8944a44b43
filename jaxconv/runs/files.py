"""Reading and writing the files of a run. A file is whole or absent; reading executes nothing."""

import contextlib
import io
import json
import math
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file, which appears whole or not at all.

    Args:
      path: the file.
      content: the object to write; NaN and infinity, which JSON does not have, become null.

    Raises:
      OSError: if the file cannot be written.
    """
    _replace(path, (_json(content, indent=2) + "\n").encode())


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, which appears whole or not at all.

    Bytes that are not UTF-8, which a folder's name may have, are written as Python shows them.

    Raises:
      OSError: if the file cannot be written.
    """
    _replace(path, text.encode(errors="backslashreplace"))


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".tmp")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replaces a JSON Lines file, which appears whole or not at all.

    Raises:
      OSError: if the file cannot be written.
    """
    _replace(path, "".join(_json(row) + "\n" for row in rows).encode())


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed npz file, which appears whole or not at all.

    Args:
      path: the file.
      arrays: arrays of any shape, by name.

    Raises:
      OSError: if the file cannot be written.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write_arrays(Path(folder, "a.npz"), {"label": np.arange(3)})
      ...     read_arrays(Path(folder, "a.npz"))
      {'label': array([0, 1, 2])}
    """
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # pyright: ignore[reportArgumentType]
    _replace(path, content.getvalue())


_DAMAGED = (
    EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of an npz file by name, without executing anything in it.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file is damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise
    except _DAMAGED as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a line to a JSON Lines file and closes it, so that an interrupted run keeps the line.

    Raises:
      OSError: if the line cannot be written; the file is then as before.
    """
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            line = (_json(row) + "\n").encode()
            if file.write(line) < len(line):
                raise OSError(f"{path}: no space for another line.")
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(size)
            raise


class RowWriter:
    r"""Writes a run's JSON Lines file. A full disk does not end the run: rows are written later.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     rows = RowWriter(Path(folder, "rows.jsonl"))
      ...     rows.append({"epoch": 1})
      ...     Path(folder, "rows.jsonl").read_text()
      '{"epoch": 1}\n'
    """

    def __init__(self, path: Path) -> None:
        self.path, self._late = path, []

    def append(self, row: Mapping[str, Any]) -> None:
        """Writes the late rows and this one, or prints a warning."""
        self._late.append(row)
        try:
            self.flush()
        except OSError as error:
            message = (
                f"WARNING: A ROW OF {self.path} WAS NOT WRITTEN: {error}. The run tries again."
            )
            print(message, file=sys.stderr)

    def flush(self) -> None:
        """Writes the late rows.

        Raises:
          OSError: if they cannot be written.
        """
        while self._late:
            append_row(self.path, self._late[0])
            del self._late[0]


def _json(content: Mapping[str, Any], indent: int | None = None) -> str:
    """Strict JSON: NaN and infinity become null."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def warn_if_not_written(path: Path) -> Iterator[None]:
    """Prints a warning if the block cannot write a file for any reason, and lets the run go on.

    Example:
      >>> with warn_if_not_written(Path("a.png")):
      ...     raise OSError("no space")
    """
    try:
        yield
    except Exception as error:  # a picture or a page must not cost a trained net
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        print(f"WARNING: {path} WAS NOT WRITTEN: {kind}{error}", file=sys.stderr)
