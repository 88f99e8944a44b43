"""The folder of a run: found free or refused, and its files, which are whole or absent."""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

CONFIG, METRICS, RESULT, CURVES = "config.json", "metrics.jsonl", "result.json", "curves.png"
DIFFERENCES, SWEEP = "differences.png", "sweep.png"
FILES = (CONFIG, METRICS, RESULT, CURVES, DIFFERENCES, SWEEP)


def create_run_folder(name: str, output_dir: str | None = None, *, overwrite: bool = False) -> Path:
    """Makes the folder of a new run.

    Args:
      name: what the run is called, `lab6-0`; without `output_dir` its folder is `runs/lab6-0-<n>`
        with the first n that is free, also when several runs start at once.
      output_dir: the folder itself, made if need be.
      overwrite: whether a run that `output_dir` holds already is deleted first. Only the run's own
        files are.

    Raises:
      ValueError: if `output_dir` is empty.
      FileExistsError: if `output_dir` holds a run and `overwrite` is False.
      OSError: if the folder cannot be made.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as parent:
      ...     folder = create_run_folder("lab6-0", parent + "/mine")
      ...     folder.name
      'mine'
    """
    check_output_dir(output_dir)
    if output_dir is None:
        return _next_free(Path("runs"), name)
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    found = [folder / file for file in FILES if (folder / file).exists()]
    if found and not overwrite:
        raise FileExistsError(
            f"{folder} already holds a run ({', '.join(file.name for file in found)}): name "
            "another --output-dir, or add --overwrite to delete it."
        )
    for file in found:
        file.unlink()
    return folder


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
def interrupts_told(folder: Path) -> Iterator[None]:
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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file, which appears whole or not at all.

    Raises:
      OSError: if it cannot be written.
    """
    draft = path.with_suffix(".tmp")
    draft.write_text(_json(content, indent=2) + "\n")
    os.replace(draft, path)


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a line to a JSON Lines file and closes it, so that an interrupted run keeps it.

    Raises:
      OSError: if it cannot be written.
    """
    with path.open("a") as file:
        file.write(_json(row) + "\n")


def _json(content: Mapping[str, Any], indent: int | None = None) -> str:
    """Strict JSON: NaN and infinity, which it does not have, become null."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _next_free(parent: Path, name: str) -> Path:
    parent.mkdir(exist_ok=True)
    n = 1
    while True:
        folder = parent / f"{name}-{n}"
        try:
            folder.mkdir()  # atomic: of two runs that start at once, each gets its own
            return folder
        except FileExistsError:
            n += 1
