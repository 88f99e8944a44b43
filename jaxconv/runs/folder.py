"""The folder of a run: its name, its lock, and the names of its files."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

CONFIG, METRICS, RESULT, CURVES = "config.json", "metrics.jsonl", "result.json", "curves.png"
DIFFERENCES, SWEEP, PICTURE = "differences.png", "sweep.png", "picture.png"
CHECKPOINTS, LOCK = "checkpoints", ".lock"
MODEL, DIAGNOSTICS, REPORT = "model.safetensors", "diagnostics.npz", "report.html"
FILES = (
    CONFIG, METRICS, RESULT, CURVES, DIFFERENCES, SWEEP, PICTURE, CHECKPOINTS, MODEL, DIAGNOSTICS,
    REPORT,
)  # fmt: skip
"""All files of a run, which `overwrite` deletes."""


@contextlib.contextmanager
def new_run_folder(
    name: str, output_dir: str | None = None, *, overwrite: bool = False
) -> Iterator[Path]:
    """Makes the folder of a new run, and keeps other runs out of it within the block.

    Args:
      name: the run's name, such as `lab6-0`. Without `output_dir` the folder is `runs/lab6-0-<n>`
        with the first free n, also when several runs start at once.
      output_dir: the folder itself; it is made if it does not exist.
      overwrite: whether to delete the run that `output_dir` holds. Only files of a run are deleted.

    Yields:
      The folder.

    Raises:
      ValueError: if `output_dir` is the empty string.
      FileExistsError: if `output_dir` holds a run and `overwrite` is False, or if a link or another
        thing that no run makes has the name of a run's file. Nothing is deleted then.
      BlockingIOError: if another run uses the folder.
      OSError: if the folder cannot be made.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as parent:
      ...     with new_run_folder("lab6-0", parent + "/mine") as folder:
      ...         folder.name
      'mine'
    """
    check_output_dir(output_dir)
    folder = next_free(Path("runs"), name) if output_dir is None else Path(output_dir)
    with locked(folder):
        found = [folder / file for file in FILES if os.path.lexists(folder / file)]
        if found and not overwrite:
            raise FileExistsError(
                f"{folder} already holds a run ({', '.join(file.name for file in found)}): name "
                "another --output-dir, add --overwrite to delete the run, or resume an experiment "
                "with --resume."
            )
        for file in found:  # look at all before any is deleted
            kind = "link" if file.is_symlink() else "folder" if file.is_dir() else "file"
            if kind != ("folder" if file.name == CHECKPOINTS else "file"):
                raise FileExistsError(
                    f"{file} is a {kind}, which no run makes: move it away, or name another "
                    "--output-dir."
                )
        for file in found:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        yield folder


def find_run_folder(name: str, output_dir: str | None = None) -> Path:
    """Finds the folder of the run to resume: `output_dir`, or else the newest `runs/<name>-<n>`.

    Raises:
      ValueError: if `output_dir` is the empty string.
      FileNotFoundError: if `output_dir` is None and there is no such run.
    """
    check_output_dir(output_dir)
    if output_dir is not None:
        return Path(output_dir)
    found = {int(path.name[len(name) + 1 :]): path for path in _numbered(Path("runs"), name)}
    if not found:
        raise FileNotFoundError(
            f"There is no run to resume: no folder runs/{name}-N. Name it with --output-dir."
        )
    return found[max(found)]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a folder until the block or the process ends, even if it is killed.

    Raises:
      BlockingIOError: if another run uses the folder.
      OSError: if the folder cannot be made or written.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder)):
      ...     with locked(Path(folder)):
      ...         pass
      Traceback (most recent call last):
      BlockingIOError: ... is in use by another run: wait for its end, or name ...
    """
    import filelock

    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        raise BlockingIOError(
            f"{folder} is in use by another run: wait for its end, or name another --output-dir."
        ) from None
    except OSError as error:
        raise OSError(
            f"The folder {folder} cannot be written ({error.strerror}): name another --output-dir."
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_output_dir(output_dir: str | None) -> None:
    """Refuses an empty name, which would be the current folder.

    Raises:
      ValueError: if the name is empty.

    Example:
      >>> check_output_dir("")
      Traceback (most recent call last):
      ValueError: output_dir is empty: name a folder, or leave it out.
    """
    if output_dir == "":
        raise ValueError("output_dir is empty: name a folder, or leave it out.")


@contextlib.contextmanager
def report_interrupt(folder: Path) -> Iterator[None]:
    """Prints which files a run leaves when a signal ends it."""
    try:
        yield
    except KeyboardInterrupt:
        rows = folder / METRICS
        if rows.exists():
            print(f"Interrupted. The finished epochs are in {rows}")
        else:
            print(f"Interrupted before the first epoch ended; the settings are in {folder}")
        raise


def _numbered(parent: Path, name: str) -> list[Path]:
    pattern = re.compile(rf"{re.escape(name)}-[0-9]+")
    return [path for path in parent.glob(f"{name}-*") if pattern.fullmatch(path.name)]


def next_free(parent: Path, name: str) -> Path:
    """Makes the folder `<name>-<n>` with the first free n, also when several processes ask.

    Raises:
      OSError: if `parent`, or a folder in it, cannot be made.
    """
    n = 1
    while True:
        folder = parent / f"{name}-{n}"
        try:
            parent.mkdir(exist_ok=True)
            folder.mkdir()  # atomic: two runs that start at once get different folders
            return folder
        except OSError as error:
            if not folder.exists():
                raise OSError(
                    f"The folder {folder} cannot be made ({error.strerror}): name another with "
                    "--output-dir."
                ) from error
        n += 1
