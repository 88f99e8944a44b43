"""Resuming a run: are its settings and data the same, is it finished, where did it end?"""

import contextlib
import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from jaxconv._checks import list_changes
from jaxconv.data.arrays import Dataset, sha256
from jaxconv.data.stream import StreamedDataset
from jaxconv.runs.checkpoint import Checkpoints
from jaxconv.runs.config import Config
from jaxconv.runs.files import warn_if_not_written
from jaxconv.runs.folder import CONFIG, REPORT, RESULT, find_run_folder
from jaxconv.runs.plan import Plan
from jaxconv.runs.report.render import write_report
from jaxconv.runs.result_lines import name_seeds, result_lines


class Found(NamedTuple):
    """What the folder of a run to resume holds."""

    path: str
    config: dict[str, Any] | None
    """Its `config.json`; None if that cannot be read."""
    epochs_before: int | None
    """The number of epochs that it was to train, if it shall train more."""
    result: dict[str, Any] | None
    """The result of a run that is finished."""


def find_run(plan: Plan, config: Config) -> Found | None:
    """Finds the run to resume; None if the settings do not ask for one.

    Raises:
      FileNotFoundError: if there is no run to resume.
      ValueError: if its settings differ, or its result is damaged.
    """
    if not config.run.resume:
        return None
    folder = find_run_folder(plan.title, config.run.output_dir)
    found, result = read_config(folder), None
    before = None if found is None else check_settings(folder, found, plan)
    if before is not None:
        print(f"{folder} trains on (epochs: {before} then, {plan.epochs} now)")
    if (folder / RESULT).exists() and before is None:
        result = finished(folder, config.run.export_keras, plan.epochs)
    if result is not None and not (folder / REPORT).exists():
        with warn_if_not_written(folder / REPORT):
            write_report(folder, result)
    return Found(str(folder), found, before, result)


def read_config(folder: Path) -> dict[str, Any] | None:
    """Reads the `config.json` of a run; None if there is none, or it is damaged."""
    path = folder / CONFIG
    if not path.exists():
        return None
    try:
        begun = json.loads(path.read_text())
        if not isinstance(begun, dict) or "experiment" not in begun:
            raise ValueError("it does not name an experiment.")
    except (RecursionError, ValueError) as error:
        print(f"{path} is damaged, so its settings are unknown: {error}")
        return None
    return begun


def check_settings(folder: Path, begun: Mapping[str, Any], plan: Plan) -> int | None:
    """Refuses to resume a run that was started with other settings, and names them.

    Returns:
      The number of epochs that it was started with, if that has grown; else None.
    """
    settings, groups = plan.settings, [x for x in begun.values() if isinstance(x, Mapping)]
    flat = {**begun} | {key: value for group in groups for key, value in group.items()}
    own = {key: value for key, value in settings.items() if key in flat}
    before = flat.get("epochs")
    grown = plan.grows and isinstance(before, int) and before < settings.get("epochs", 0)
    if grown:
        own["epochs"] = before
    if changed := list_changes({key: flat[key] for key in own}, own):
        may = "--epochs may grow" if plan.grows else "a schedule's epochs cannot grow"
        raise ValueError(
            f"{folder} holds a run with other settings ({'; '.join(changed)}): resume with the "
            f"same ones ({may}), or begin anew in another folder."
        )
    return before if grown else None


def finished(folder: Path, export_keras: str | None, epochs: int) -> dict[str, Any] | None:
    """Prints and returns the `result.json` of a run; None if it is of fewer epochs.

    Raises:
      ValueError: if it is damaged, or the file `export_keras` does not exist.
    """
    path = folder / RESULT
    try:
        result = dict(json.loads(path.read_text()))
        lines = result_lines(result)
        if result["epochs"] < epochs:  # a training that goes on was interrupted
            return None
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it to resume.") from error
    if export_keras is not None and not Path(export_keras).exists():
        raise ValueError(
            f"The run in {folder} is finished, and {export_keras} was not among its files: leave "
            f"export_keras out, or delete {path} to resume before its end."
        )
    print(f"{lines}\nThe run is finished: {folder}")
    return result


def check_whole(plan: Plan, all_groups: list[range], given: list[range]) -> None:
    """Refuses to go on without the checkpoint of a group that was trained before another one."""
    last = max((members.start for members in given), default=0)
    for members in all_groups:
        if members.start < last and members not in given:
            raise ValueError(
                f"There is no good checkpoint of {name_seeds([plan.seeds[i] for i in members])}, "
                "so their nets are lost: begin anew in another folder."
            )


def rows_so_far(
    histories: Sequence[Sequence[Mapping[str, float]]], groups: Sequence[range]
) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Yields each row of a run with its replica's index, in the order in which groups trained.

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
        paths = checkpoints.paths()
        last = f"is {paths[-1]}" if paths else "does not exist"
        raise FloatingPointError(f"{error} The last good checkpoint {last}.") from None


def fingerprints(data: Dataset | StreamedDataset, variables: PyTree) -> dict[str, str | None]:
    """Identifies the data (after the validation split), and the initial weights if given."""
    splits = [split for split in (data.train, data.validation, data.test) if split is not None]
    arrays = [np.asarray(x) for x in jax.tree.leaves(variables)]
    return {
        "data": hashlib.sha256(" ".join(x.identity for x in splits).encode()).hexdigest(),
        "initial_weights": sha256(*arrays) if arrays else None,
    }
