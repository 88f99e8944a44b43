"""The files of this room: whether one can be written, and written whole or not at all."""

import os
from pathlib import Path


def check_path(path: Path, *, overwrite: bool) -> None:
    """Refuses a path where no file can be written.

    Raises:
      FileExistsError: if the file exists and `overwrite` is False.
      IsADirectoryError: if it is a folder.
      OSError: if its folder cannot be written to.

    Example:
      >>> check_path(Path("."), overwrite=True)
      Traceback (most recent call last):
      IsADirectoryError: . is a folder: name a file in it.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it.")
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} is there already: name another, or replace it with overwrite."
        )
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise OSError(
            f"{path} cannot be written: {nearest} is not a folder that can be written to."
        )


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that appears whole or not at all.

    Raises:
      OSError: if it cannot be written.
    """
    path = path.resolve()  # replaces the target of a link, not the link
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{os.getpid()}.tmp")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
