"""SHA-256 sums over every byte of a folder, in a file that `sha256sum -c` reads."""

import hashlib
import os
import stat
from pathlib import Path

SUMS = "SHA256SUMS"
LATER = ("_CHECKPOINT_METADATA", "commit_success.txt")
"""Files that Orbax writes after the sums: times, and the folder's name. Nothing reads them."""


def write_sums(folder: Path) -> None:
    """Writes `SHA256SUMS`; returns once the folder is on the disk and survives a power failure."""
    (folder / SUMS).write_text(_sums(folder))
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def check_sums(folder: Path) -> None:
    """Raises ValueError, with the names, if a file of the folder is changed, missing or new."""
    if not (folder / SUMS).is_file():
        raise ValueError(f"there is no {SUMS}.")
    found = _sums(folder)
    with (folder / SUMS).open("rb") as file:
        expected = file.read(2**26).decode(errors="replace")  # not more: it may be huge
    if expected != found:
        changed = set(expected.splitlines()) ^ set(found.splitlines())
        names = sorted({line[66:] for line in changed} - {""}) or [SUMS]
        raise ValueError(f"{', '.join(names)} is not what was written.")


def sync(path: Path) -> None:
    """Returns once a file or folder is on the disk."""
    if os.name != "posix":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sums(folder: Path) -> str:
    """The lines of `SHA256SUMS` for the files that the folder holds now."""
    lines = []
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_symlink() or not (file.is_dir() or stat.S_ISREG(file.stat().st_mode)):
            raise ValueError(f"{name} is not a plain file.")
        if file.is_file() and name not in (SUMS, *LATER):
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            lines.append(f"{digest}  {name}\n")
    return "".join(lines)
