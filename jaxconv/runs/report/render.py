"""The page of a run, `report.html`: made of the files in its folder, and of nothing else."""

import importlib.util
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxconv.runs import folder as run_folder
from jaxconv.runs.files import read_arrays, write_text
from jaxconv.runs.report._html import document, drawing, section, table, text
from jaxconv.runs.report._net import net_sections
from jaxconv.runs.seed_list import name_seeds
from jaxconv.runs.seed_plots import plot_run

_TIMES = {
    "seconds_import": "imports",
    "seconds_data": "data",
    "seconds_compile": "compilation",
    "seconds_train": "training",
    "seconds_evaluation": "evaluation",
    "seconds_report": "predictions and feature maps for this page",
    "seconds_total": "from the start of the process to the result",
}
_MACHINE = (
    "device_kind", "backend", "device_count", "cpu", "cpu_count", "system", "python_version",
    "jax_version", "jaxlib_version", "flax_version", "optax_version", "numpy_version",
)  # fmt: skip


def write_report(folder: Path, result: Mapping[str, Any] | None = None) -> Path:
    """Writes a run's `report.html`, a page that needs no other file and no network.

    Args:
      folder: the run's.
      result: what its `result.json` will hold, if that is not written yet.

    Returns:
      The page's path. What a damaged or missing file, or missing matplotlib, leaves out is said in
      the page and printed.

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
    missing = []
    drawable = importlib.util.find_spec("matplotlib") is not None
    if not drawable:
        missing.append("Pictures are left out: matplotlib is missing (pip install matplotlib).")
    try:
        kept = read_arrays(folder / run_folder.DIAGNOSTICS)
    except (OSError, ValueError) as error:
        kept = {}
        missing.append(f"What the net predicts is left out: {error}")
    try:
        histories = _histories(folder / run_folder.METRICS, result)
    except (OSError, TypeError, ValueError) as error:
        histories = []
        missing.append(f"The epochs are left out: {error}")
    seeds = result.get("seeds", [result.get("seed")])
    try:
        about_net = net_sections(kept, seeds, drawable=drawable)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        about_net = []
        missing.append(
            f"What the net predicts is left out: {run_folder.DIAGNOSTICS} is of another version "
            f"({error})."
        )
    for line in missing:
        print(line)
    try:
        title = f"{result['experiment']} on {result['dataset']}, {name_seeds(seeds)}"
        parts = [
            _head(title, result, config),
            *(f"<p><b>{text(line)}</b></p>" for line in missing),
            _curves(histories, result, drawable),
            _seeds(result),
            *about_net,
            _settings(config, result),
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"The result in {folder} is of another version ({error}): train again with --overwrite."
        ) from error
    path = folder / run_folder.REPORT
    write_text(path, document(title, *parts))
    return path


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"There is no {path}: name the folder of a finished run.")
    try:
        return dict(json.loads(path.read_text()))
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _histories(path: Path, result: Mapping[str, Any]) -> list[list[dict[str, float]]]:
    """Of each seed the rows of its epochs, NaN where JSON has null."""
    seeds = result.get("seeds", [None])
    histories: dict[Any, list[dict[str, float]]] = {seed: [] for seed in seeds}
    for line in path.read_text().splitlines():
        row = {key: math.nan if x is None else x for key, x in dict(json.loads(line)).items()}
        history = histories.get(row.pop("seed", None))
        if history is None or not {"epoch", "loss", "accuracy"} <= row.keys():
            raise ValueError(f"{path} has a line that is not of this run: {line}")
        history.append(row)
    if len({len(history) for history in histories.values()} | {0}) != 2:
        raise ValueError(f"{path} has not as many epochs of each seed.")
    return list(histories.values())


def _number(value: float | None, digits: int = 4) -> str:
    return "not finite" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _head(title: str, result: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    numbers = []
    for name in ("test_accuracy", "test_loss"):
        std = result.get(f"{name}_std")
        value = _number(result[name]) + ("" if std is None else f" ± {std:.4f}")
        numbers.append((name.replace("_", " "), value))
    numbers.append(("training", f"{_number(result['seconds_train'], 1)} s"))
    numbers.append(("parameters", f"{result['params_count']:,}"))
    cells = "".join(f"<div>{text(name)}<b>{text(value)}</b></div>" for name, value in numbers)
    diverged = result.get("diverged")
    lost = f"<p>Diverged, and in no mean: {text(name_seeds(diverged))}</p>" if diverged else ""
    command = config.get("command")
    again = f"<pre><code>{text(command)}</code></pre>" if command else ""
    device = f"{result.get('device_kind')}, jax {result.get('jax_version')}"
    return (
        f'<header><h1>{text(title)}</h1><p class="soft">{text(device)}</p>'
        f'<div class="numbers">{cells}</div>{lost}{again}</header>'
    )


def _curves(
    histories: Sequence[Sequence[Mapping[str, float]]], result: Mapping[str, Any], drawable: bool
) -> str:
    if not histories:
        return ""
    names, several = ("loss", "accuracy"), "seeds" in result
    ends = {x: result[f"test_{x}_by_seed"] if several else [result[f"test_{x}"]] for x in names}
    tests = [
        {x: math.nan if ends[x][i] is None else ends[x][i] for x in names}
        for i in range(len(histories))
    ]
    lost = [seed in result["diverged"] for seed in result["seeds"]] if several else [False]

    def draw(file: Any) -> None:
        title = "each seed" if several else ""
        plot_run(histories, tests, lost, file, title=title, several=several)

    drawn = [drawing(draw, "loss and accuracy by epoch")] if drawable else []
    if len(histories) == 1:
        keys = list(histories[0][0])
        rows = [[_cell(row.get(key)) for key in keys] for row in histories[0]]
        drawn.append(table(rows, [key.replace("_", " ") for key in keys]))
    return section("Epochs", *drawn)


def _cell(value: Any) -> Any:
    return _number(value) if isinstance(value, float) else value


def _seeds(result: Mapping[str, Any]) -> str:
    if "seeds" not in result:
        return ""
    ends = {"mean": "", "std": "_std", "min": "_min", "max": "_max"}
    ends |= {"95% of the mean, from": "_low", "to": "_high"}
    names = [name for name in ("train", "val", "test") if result.get(f"{name}_loss_by_seed")]
    names = [f"{name}_{x}" for name in names for x in ("loss", "accuracy")]
    names = [x for x in names if any(v is not None for v in result[f"{x}_by_seed"])]
    rows = [
        [seed, *(_number(result[f"{name}_by_seed"][i]) for name in names)]
        for i, seed in enumerate(result["seeds"])
    ]
    spread = [
        [label, *("" if (x := result.get(name + end)) is None else f"{x:.4f}" for name in names)]
        for label, end in ends.items()
    ]
    heads = [name.replace("_", " ") for name in names]
    return section("Seeds", table([*rows, *spread], ["seed", *heads]))


def _settings(config: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    settings = [[k, "none" if x is None else x] for k, x in config.items() if k != "command"]
    times = [
        [label, f"{result[key]:.2f} s"]
        for key, label in _TIMES.items()
        if result.get(key) is not None
    ]
    machine = [[key.replace("_", " "), result[key]] for key in _MACHINE if key in result]
    tables = (("Times", times), ("Machine and versions", machine), ("Settings", settings))
    return f'<div class="tables">{"".join(section(name, table(x)) for name, x in tables)}</div>'
