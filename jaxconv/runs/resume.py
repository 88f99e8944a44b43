"""Resuming a run: are its settings and data the same, is it finished, where did it end?"""

import contextlib
import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxconv.data.arrays import Dataset
from jaxconv.data.stream import Stream, StreamedDataset
from jaxconv.runs.checkpoint import Checkpoints, list_changes
from jaxconv.runs.folder import CONFIG, RESULT
from jaxconv.runs.result import result_lines


def check_settings(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Refuses to resume a run that was started with other settings.

    Args:
      folder: the run's folder.
      settings: the settings of the run to come, as `training_settings` returns them.

    Returns:
      Whether the folder's `config.json` could be read.

    Raises:
      ValueError: with the settings that differ.
    """
    path = folder / CONFIG
    if not path.exists():
        return False
    try:
        begun = dict(json.loads(path.read_text()))
    except (RecursionError, TypeError, ValueError) as error:
        print(f"{path} is damaged, so its settings are unknown: {error}")
        return False
    own = {key: value for key, value in settings.items() if key in begun}
    if changed := list_changes({key: begun[key] for key in own}, own):
        raise ValueError(
            f"{folder} holds a run with other settings ({'; '.join(changed)}): resume with the "
            "same ones, or begin anew in another folder."
        )
    return True


def finished(folder: Path, export_keras: str | None) -> dict[str, Any]:
    """Prints and returns the result of a run that is finished.

    Args:
      folder: the run's folder.
      export_keras: the file to which the run should have exported its weights, if any.

    Returns:
      The contents of `result.json`.

    Raises:
      ValueError: if `result.json` is damaged, or the file `export_keras` does not exist.
    """
    path = folder / RESULT
    if export_keras is not None and not Path(export_keras).exists():
        raise ValueError(
            f"The run in {folder} is finished, and {export_keras} was not among its files: leave "
            f"export_keras out, or delete {path} to resume before its end."
        )
    try:
        result = dict(json.loads(path.read_text()))
        lines = result_lines(result)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it to resume.") from error
    print(f"{lines}\nThe run is finished: {folder}")
    return result


def rows_so_far(
    histories: Sequence[Sequence[Mapping[str, float]]], groups: Sequence[range]
) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Yields each row of a run with its replica's index, in the order of the training.

    Args:
      histories: the rows of each replica.
      groups: the replicas that were trained together, in order.

    Example:
      >>> list(rows_so_far([[{"epoch": 1}, {"epoch": 2}], [{"epoch": 1}]], [range(2)]))
      [(0, {'epoch': 1}), (1, {'epoch': 1}), (0, {'epoch': 2})]
    """
    for group in groups:
        for epoch in range(max(len(histories[i]) for i in group)):
            yield from ((i, histories[i][epoch]) for i in group if epoch < len(histories[i]))


@contextlib.contextmanager
def report_resume_point(folder: Path, checkpoints: Checkpoints) -> Iterator[None]:
    """Prints how to resume a run that ended early."""
    try:
        yield
    except KeyboardInterrupt:
        checkpoints.wait()
        if (folder / RESULT).exists():
            print(f"The run is finished: {folder}")
        elif steps := checkpoints.steps():
            print(
                f"Saved at step {steps[-1]}. To resume, repeat the options (without --overwrite) "
                f"and add --resume --output-dir {shlex.quote(str(folder))}"
            )
        raise
    except FloatingPointError as error:
        checkpoints.wait()
        steps = checkpoints.steps()
        last = f"is {checkpoints.folder / str(steps[-1])}" if steps else "does not exist"
        raise FloatingPointError(f"{error} The last good checkpoint {last}.") from None


def fingerprint(*arrays: np.ndarray) -> str:
    """Returns the SHA-256 of the shapes, dtypes and bytes of arrays.

    Example:
      >>> fingerprint(np.arange(3))[:8] == fingerprint(np.arange(3.0))[:8]
      False
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def fingerprints(data: Dataset | StreamedDataset, params: PyTree | None) -> dict[str, str | None]:
    """SHA-256 of the data (after the validation split) and of the initial weights.

    A stream is identified by its TFDS name, version and size.

    Args:
      data: the data set.
      params: the initial weights; None if they follow from the seed.

    Returns:
      `data` and `initial_weights`, which is None without `params`.
    """
    splits = [split for split in (data.train, data.validation, data.test) if split is not None]
    parts: list[np.ndarray] = []
    for split in splits:
        if isinstance(split, Stream):
            parts.append(np.frombuffer(split.identity.encode(), np.uint8))
        else:
            parts += split.batch().values()
    arrays = None if params is None else map(np.asarray, jax.tree.leaves(params))
    return {
        "data": fingerprint(*parts),
        "initial_weights": None if arrays is None else fingerprint(*arrays),
    }
