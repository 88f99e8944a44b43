"""Makes the page of a run, `report.html`, from the files in the run's folder alone."""

import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxconv.runs import folder as run_folder
from jaxconv.runs.files import read_arrays, write_text
from jaxconv.runs.report._html import document, text
from jaxconv.runs.report._net import net_sections
from jaxconv.runs.report._run import epoch_section, header, seed_section, settings_section
from jaxconv.runs.result import name_seeds


def write_report(folder: Path, result: Mapping[str, Any] | None = None) -> Path:
    """Writes a run's `report.html`, a page that needs no other file and no network.

    The page leaves out each part whose file is damaged or missing, and all pictures without
    matplotlib; the page and the terminal name the reason.

    Args:
      folder: the run's folder.
      result: the content of its `result.json`, if that is not written yet.

    Returns:
      The page's path.

    Raises:
      FileNotFoundError: if the folder holds no finished run of an experiment.
      ValueError: if its `config.json` or `result.json` is damaged or of another version.
      OSError: if the page cannot be written.
    """
    config = _read(folder / run_folder.CONFIG)
    result = _read(folder / run_folder.RESULT) if result is None else result
    if "experiment" not in result:
        raise FileNotFoundError(
            f"{folder} holds no run of an experiment: name a folder such as runs/lab6-0-1."
        )
    left_out: list[str] = []
    drawable = importlib.util.find_spec("matplotlib") is not None
    if not drawable:
        left_out.append("Pictures are left out: matplotlib is missing (pip install matplotlib).")
    seeds = result.get("seeds", [])
    diagnostics = _diagnostics(folder / run_folder.DIAGNOSTICS, left_out)
    try:
        histories = _histories(folder / run_folder.METRICS, result)
    except (KeyError, OSError, TypeError, ValueError) as error:
        histories = []
        left_out.append(f"The epochs are left out: {error}")
    about_net = _net_sections(diagnostics, seeds, left_out, drawable=drawable)
    for line in left_out:
        print(line)
    try:
        title = f"{result['experiment']} on {result['dataset']}, {name_seeds(seeds)}"
        parts = [
            header(title, result, config),
            *(f"<p><b>{text(line)}</b></p>" for line in left_out),
            epoch_section(histories, result, drawable),
            seed_section(result),
            *about_net,
            settings_section(config, result),
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"The result in {folder} is of another version ({error}): train again with --overwrite."
        ) from error
    path = folder / run_folder.REPORT
    write_text(path, document(title, *parts))
    return path


def _diagnostics(path: Path, left_out: list[str]) -> dict[str, np.ndarray]:
    try:
        return read_arrays(path)
    except (OSError, ValueError) as error:
        left_out.append(f"The net's predictions are left out: {error}")
        return {}


def _net_sections(
    diagnostics: Mapping[str, np.ndarray],
    seeds: Sequence[int],
    left_out: list[str],
    *,
    drawable: bool,
) -> list[str]:
    try:
        return net_sections(diagnostics, seeds, drawable=drawable)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        left_out.append(
            f"The net's predictions are left out: {run_folder.DIAGNOSTICS} is of another version "
            f"({error})."
        )
        return []


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"There is no {path}: name the folder of a finished run.")
    try:
        return dict(json.loads(path.read_text()))
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _histories(path: Path, result: Mapping[str, Any]) -> list[list[dict[str, float]]]:
    """The rows of each seed's epochs, with NaN in place of null."""
    histories: dict[Any, list[dict[str, float]]] = {seed: [] for seed in result["seeds"]}
    for line in path.read_text().splitlines():
        row = {key: math.nan if x is None else x for key, x in dict(json.loads(line)).items()}
        history = histories.get(row.pop("seed", None))
        if history is None or not {"epoch", "loss", "accuracy"} <= row.keys():
            raise ValueError(f"{path} has a line of another run: {line}")
        history.append(row)
    if len({len(history) for history in histories.values()} | {0}) != 2:
        raise ValueError(f"{path} does not have the same number of epochs for each seed.")
    return list(histories.values())
