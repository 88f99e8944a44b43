"""The parts of a run's page that show its settings, epochs and metrics."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxconv.runs.plots import plot_run
from jaxconv.runs.report._html import drawing, section, table, text
from jaxconv.runs.result import name_seeds

_TIMES = {
    "seconds_data": "data",
    "seconds_compile": "compilation",
    "seconds_train": "training",
    "seconds_evaluation": "evaluation",
    "seconds_report": "predictions and feature maps for this page",
    "seconds_total": "from the start of the run to the result",
}
_MACHINE = (
    "device_kind", "backend", "device_count", "cpu", "cpu_count", "system", "python_version",
    "jax_version", "jaxlib_version", "flax_version", "optax_version",
)  # fmt: skip


def header(title: str, result: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The title, the test metrics, and the command that started the run."""
    numbers = []
    for name in ("test_accuracy", "test_loss"):
        std = result.get(f"{name}_std")
        value = _number(result[name]) + ("" if std is None else f" ± {std:.4f}")
        numbers.append((name.replace("_", " "), value))
    numbers.append(("training", f"{_number(result['seconds_train'], 1)} s"))
    numbers.append(("parameters", f"{result['params_count']:,}"))
    cells = "".join(f"<div>{text(name)}<b>{text(value)}</b></div>" for name, value in numbers)
    diverged = result.get("diverged")
    names = f"Diverged and left out of the means: {name_seeds(diverged)}" if diverged else ""
    lost = f"<p>{text(names)}</p>" if diverged else ""
    command = config.get("command")
    again = f"<pre><code>{text(command)}</code></pre>" if command else ""
    device = f"{result.get('device_kind')}, jax {result.get('jax_version')}"
    return (
        f'<header><h1>{text(title)}</h1><p class="soft">{text(device)}</p>'
        f'<div class="numbers">{cells}</div>{lost}{again}</header>'
    )


def epoch_section(
    histories: Sequence[Sequence[Mapping[str, float]]], result: Mapping[str, Any], drawable: bool
) -> str:
    """Loss and accuracy by epoch: drawn if matplotlib is installed, and as a table for one seed."""
    if not histories:
        return ""
    names = ("loss", "accuracy")
    ends = {x: result[f"test_{x}_by_seed"] for x in names}
    tests = [
        {x: math.nan if ends[x][i] is None else ends[x][i] for x in names}
        for i in range(len(histories))
    ]
    lost = [seed in result["diverged"] for seed in result["seeds"]]

    def draw(file: Any) -> None:
        title = "each seed" if len(histories) > 1 else ""
        plot_run(histories, tests, lost, file, title=title)

    drawn = [drawing(draw, "loss and accuracy by epoch")] if drawable else []
    if len(histories) == 1:
        keys = list(histories[0][0])  # the last row has the test besides
        rows = [[_cell(row.get(key)) for key in keys] for row in histories[0]]
        drawn.append(table(rows, [key.replace("_", " ") for key in keys]))
    return section("Epochs", *drawn)


def seed_section(result: Mapping[str, Any]) -> str:
    """Each seed's metrics and their statistics; an empty string for a run of one seed."""
    if len(result["seeds"]) == 1:
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
    summary = [
        [label, *("" if (x := result.get(name + end)) is None else f"{x:.4f}" for name in names)]
        for label, end in ends.items()
    ]
    heads = [name.replace("_", " ") for name in names]
    return section("Seeds", table([*rows, *summary], ["seed", *heads]))


def settings_section(config: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Times, machine and versions, and the run's settings."""
    groups = [x for x in config.values() if isinstance(x, Mapping)]
    options = [[k, "none" if x is None else x] for group in groups for k, x in group.items()]
    times = [
        [label, f"{result[key]:.2f} s"]
        for key, label in _TIMES.items()
        if result.get(key) is not None
    ]
    machine = [[key.replace("_", " "), result[key]] for key in _MACHINE if key in result]
    tables = (("Times", times), ("Machine and versions", machine), ("Settings", options))
    return f'<div class="tables">{"".join(section(name, table(x)) for name, x in tables)}</div>'


def _number(value: float | None, digits: int = 4) -> str:
    return "not finite" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _cell(value: Any) -> Any:
    return _number(value) if isinstance(value, float) else value
