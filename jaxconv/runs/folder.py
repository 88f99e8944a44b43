"""The folder of a run: found free or refused, locked, and the names of its files."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONFIG, METRICS, RESULT, CURVES = "config.json", "metrics.jsonl", "result.json", "curves.png"
DIFFERENCES, SWEEP, PICTURE = "differences.png", "sweep.png", "picture.png"
CHECKPOINTS, LOCK = "checkpoints", ".lock"
TRAINED, DIAGNOSTICS, REPORT = "trained.weights.h5", "diagnostics.npz", "report.html"
FILES = (
    CONFIG,
    METRICS,
    RESULT,
    CURVES,
    DIFFERENCES,
    SWEEP,
    PICTURE,
    CHECKPOINTS,
    TRAINED,
    DIAGNOSTICS,
    REPORT,
)


@contextlib.contextmanager
def new_run_folder(
    name: str, output_dir: str | None = None, *, overwrite: bool = False
) -> Iterator[Path]:
    """Makes the folder of a new run, and keeps other runs out of it in its block.

    Args:
      name: what the run is called, `lab6-0`; without `output_dir` its folder is `runs/lab6-0-<n>`
        with the first n that is free, also when several runs start at once.
      output_dir: the folder itself, made if need be.
      overwrite: whether a run that `output_dir` holds already is deleted first. Only the run's own
        files are.

    Raises:
      ValueError: if `output_dir` is empty.
      FileExistsError: if `output_dir` holds a run and `overwrite` is False.
      BlockingIOError: if a run is under way in it.
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
        found = [folder / file for file in FILES if (folder / file).exists()]
        if found and not overwrite:
            raise FileExistsError(
                f"{folder} already holds a run ({', '.join(file.name for file in found)}): name "
                "another --output-dir, or add --overwrite to delete it (an experiment goes on with "
                "its own by --resume)."
            )
        for file in found:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        yield folder


def find_run_folder(name: str, output_dir: str | None = None) -> Path:
    """The folder of the run to go on with: the newest `runs/<name>-<n>`, or `output_dir`.

    Raises:
      ValueError: if `output_dir` is empty.
      FileNotFoundError: if it is not given and there is no such run.
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
    """Keeps other runs out of a folder, until this block or this process ends, however it does.

    Raises:
      BlockingIOError: if another run is under way there.
      OSError: if the folder cannot be made or written.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder)):
      ...     with locked(Path(folder)):
      ...         pass
      Traceback (most recent call last):
      BlockingIOError: ... is in use by another run (process ...): wait for its end, or name ...
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as error:
        raise OSError(
            f"The folder {folder} cannot be written ({error.strerror}): name another --output-dir."
        ) from error
    with lock as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is(file, path):
                raise BlockingIOError  # its run was just ending, and took the file away
        except BlockingIOError:
            file.seek(0)
            raise BlockingIOError(
                f"{folder} is in use by another run (process {file.read() or 'unknown'}): wait "
                "for its end, or name another --output-dir."
            ) from None
        except (OSError, ModuleNotFoundError) as error:  # some network disks; Windows
            print(f"{folder} cannot be locked ({error}): a second run would not be noticed.")
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def check_output_dir(output_dir: str | None) -> None:
    """Refuses the empty name, which would be the current folder.

    Raises:
      ValueError: if it is empty.

    Example:
      >>> check_output_dir("")
      Traceback (most recent call last):
      ValueError: output_dir is empty: name a folder, or leave it out.
    """
    if output_dir == "":
        raise ValueError("output_dir is empty: name a folder, or leave it out.")


@contextlib.contextmanager
def report_interrupt(folder: Path) -> Iterator[None]:
    """Says of Ctrl-C what it leaves in a run's folder."""
    try:
        yield
    except KeyboardInterrupt:
        rows = folder / METRICS
        if rows.exists():
            print(f"Interrupted. The epochs that ended are in {rows}")
        else:
            print(f"Interrupted before an epoch had ended; the settings are in {folder}")
        raise


def _is(file: Any, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _numbered(parent: Path, name: str) -> list[Path]:
    pattern = re.compile(rf"{re.escape(name)}-[0-9]+")
    return [path for path in parent.glob(f"{name}-*") if pattern.fullmatch(path.name)]


def next_free(parent: Path, name: str) -> Path:
    """Makes the folder `<name>-<n>` with the first free n, also when several ask at once."""
    parent.mkdir(exist_ok=True)
    n = 1
    while True:
        folder = parent / f"{name}-{n}"
        try:
            folder.mkdir()  # atomic: of two runs that start at once, each gets its own
            return folder
        except FileExistsError:
            n += 1
