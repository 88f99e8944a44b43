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

DRAFT = ".tmp"
"""The ending of a file that is not yet whole."""


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file, which appears whole or not at all.

    Args:
      path: the file.
      content: the object to write; NaN and infinity, which JSON does not have, become null.

    Raises:
      OSError: if the file cannot be written.
    """
    replace_file(path, (_json(content, indent=2) + "\n").encode())


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, which appears whole or not at all.

    Bytes that are not UTF-8, which a folder's name may have, are written as Python shows them.

    Raises:
      OSError: if the file cannot be written.
    """
    replace_file(path, text.encode(errors="backslashreplace"))


def replace_file(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Writes a file, which appears whole or not at all; its folder must exist.

    Args:
      path: the file.
      content: its bytes.
      durable: whether to return only once it is on the disk and survives a power failure.

    Raises:
      OSError: if the file cannot be written.
    """
    draft = path.with_suffix(DRAFT)
    try:
        draft.write_bytes(content)
        if durable:
            _sync(draft)
        os.replace(draft, path)
        if durable:
            _sync(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    """Returns once a file or folder is on the disk."""
    if os.name != "posix":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replaces a JSON Lines file, which appears whole or not at all.

    Raises:
      OSError: if the file cannot be written.
    """
    replace_file(path, "".join(_json(row) + "\n" for row in rows).encode())


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
    replace_file(path, content.getvalue())


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


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
      OSError: if there is no such file, or it cannot be read.
      ValueError: if it is damaged.
    """
    try:
        return dict(json.loads(path.read_text()))
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads a JSON Lines file; null, in place of a number that is not finite, becomes NaN.

    Raises:
      OSError: if there is no such file, or it cannot be read.
      ValueError: if it is damaged.
    """
    try:
        rows = [dict(json.loads(line)) for line in path.read_text().splitlines()]
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return [{key: math.nan if x is None else x for key, x in row.items()} for row in rows]


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
