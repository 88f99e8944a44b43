"""Makes the page of a run, `report.html`, from the files in the run's folder alone."""

import io
import json
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxconv._checks import check_installed
from jaxconv.inspection.summary import total_text
from jaxconv.measure.environment import environment
from jaxconv.runs import folder as run_folder
from jaxconv.runs.files import read_arrays, read_json, read_rows, write_text
from jaxconv.runs.plots import COLORS, draw_metric
from jaxconv.runs.report._pictures import figures_of
from jaxconv.runs.report._template import digits, seconds, template, words
from jaxconv.runs.result_lines import name_seeds

TIMES = {
    "seconds_data": "data",
    "seconds_compile": "compilation",
    "seconds_train": "training",
    "seconds_evaluation": "evaluation",
    "seconds_report": "predictions and feature maps for this page",
    "seconds_total": "from the start of the run to the result",
}
ENSEMBLE = ("accuracy", "loss", "calibration_error")
_INK = "#010203"  # drawings in this colour take the page's own


def write_report(folder: Path, result: Mapping[str, Any] | None = None) -> Path:
    """Writes a run's `report.html`, a page that needs no other file and no network.

    The page leaves out each part whose file is damaged or missing; the page and the terminal name
    the reason.

    Args:
      folder: the run's folder.
      result: the content of its `result.json`, if that is not written yet.

    Returns:
      The page's path.

    Raises:
      FileNotFoundError: if the folder holds no finished run of an experiment.
      ValueError: if its `config.json` or `result.json` is damaged or of another version.
      ModuleNotFoundError: without the packages of `jaxconv[run]`.
      OSError: if the page cannot be written.
    """
    check_installed("run")
    import jinja2

    for name in (run_folder.CONFIG, *([run_folder.RESULT] if result is None else [])):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"There is no {folder / name}: name the folder of a finished run."
            )
    config = read_json(folder / run_folder.CONFIG)
    result = read_json(folder / run_folder.RESULT) if result is None else result
    if "experiment" not in result:
        raise FileNotFoundError(
            f"{folder} holds no run of an experiment: name a folder such as runs/lab6-0-1."
        )
    histories, net, left_out = _parts(folder, result)
    for line in left_out:
        print(line)
    groups = [x for x in config.values() if isinstance(x, Mapping)]
    keys = [key for key in (histories or [[{}]])[0][0] if not key.startswith("test_")]
    try:
        page = template().render(
            title=f"{result['experiment']} on {result['dataset']}, {name_seeds(result['seeds'])}",
            params=f"{result['params_count']:,}",
            result=result,
            config=config,
            left_out=left_out,
            histories=histories,
            curves=_curves(result, histories) if histories else [],
            epoch_keys=keys,
            epochs=[
                [(seconds if key == "seconds" else digits)(row.get(key)) for key in keys]
                for row in (histories or [[]])[0]
            ],
            seed_table=_seed_table(result),
            ensemble=_ensemble(result),
            net=net,
            use=(folder / run_folder.MODEL).exists()
            and {"python": json.dumps(str(folder)), "shell": shlex.quote(str(folder))},
            times=[
                (x, f"{seconds(result[k])} s")
                for k, x in TIMES.items()
                if result.get(k) is not None
            ],
            machine=[(words(k), result[k]) for k in environment() if result.get(k)],
            device=f"{result.get('device_kind')}, jax {result.get('jax_version')}",
            settings=[item for group in groups for item in group.items()],
        )
    except (KeyError, TypeError, jinja2.UndefinedError) as error:
        raise ValueError(
            f"The result in {folder} is of another version ({error}): train again with --overwrite."
        ) from error
    write_text(folder / run_folder.REPORT, page + "\n")
    return folder / run_folder.REPORT


def _parts(
    folder: Path, result: Mapping[str, Any]
) -> tuple[list[list[dict[str, float]]], dict[str, Any] | None, list[str]]:
    """The histories, what there is of the net, and a line for each of them that cannot be read."""
    left_out, histories, net = [], [], None
    try:
        histories = _histories(folder / run_folder.METRICS, result)
    except (KeyError, OSError, TypeError, ValueError) as error:
        left_out.append(f"The epochs are left out: {error}")
    try:
        net = _net(folder / run_folder.DIAGNOSTICS, result)
    except (OSError, ValueError) as error:
        left_out.append(f"The net's predictions are left out: {error}")
    return histories, net, left_out


def _histories(path: Path, result: Mapping[str, Any]) -> list[list[dict[str, float]]]:
    """The rows of each seed's epochs, with NaN in place of null."""
    histories: dict[Any, list[dict[str, float]]] = {seed: [] for seed in result["seeds"]}
    for row in read_rows(path):
        history = histories.get(row.pop("seed", None))
        if history is None or not {"epoch", "loss", "accuracy"} <= row.keys():
            raise ValueError(f"{path} has a row of another run: {row}")
        history.append(row)
    if len({len(history) for history in histories.values()} | {0}) != 2:
        raise ValueError(f"{path} does not have the same number of epochs for each seed.")
    return list(histories.values())


def _seed_table(result: Mapping[str, Any]) -> tuple[list[list[Any]], list[str]]:
    """Each seed's metrics and their statistics, with the titles of the columns."""
    names = [f"{kind}_{x}" for kind in ("train", "val", "test") for x in ("loss", "accuracy")]
    names = [name for name in names if set(result[f"{name}_by_seed"]) != {None}]
    columns = (result[f"{name}_by_seed"] for name in names)
    rows = [[seed, *map(digits, x)] for seed, *x in zip(result["seeds"], *columns, strict=True)]
    ends = {"mean": "", "std": "_std", "min": "_min", "max": "_max"}
    for label, end in (ends | {"95% of the mean, from": "_low", "to": "_high"}).items():
        row = [result.get(name + end) for name in names]
        rows.append([label, *("" if x is None else digits(x) for x in row)])
    return rows, ["seed", *map(words, names)]


def _ensemble(result: Mapping[str, Any]) -> list[list[str]]:
    """The ensemble's figures, and below them the mean of the seeds'."""
    return [
        [title, *(digits(result.get(f"{kind}_{name}")) for name in ENSEMBLE)]
        for kind, title in (("ensemble", "ensemble"), ("test", "mean of the seeds"))
    ]


def _curves(result: Mapping[str, Any], histories: Any) -> list[Any]:
    """Loss and accuracy by epoch as SVG in the page's colours; the same run draws the same."""
    import matplotlib
    from markupsafe import Markup
    from matplotlib.figure import Figure

    ends = zip(result["test_loss_by_seed"], result["test_accuracy_by_seed"], strict=True)
    ends = [[math.nan if x is None else x for x in values] for values in ends]
    tests = [{"loss": loss, "accuracy": accuracy} for loss, accuracy in ends]
    lost = [seed in result["diverged"] for seed in result["seeds"]]
    parts = ("text", "axes.label", "axes.edge", "xtick.", "ytick.")
    style: dict[str, Any] = {
        **{f"{part}{'.' if part == 'text' else ''}color": _INK for part in parts},
        "savefig.transparent": True,
        "svg.fonttype": "none",
    }
    drawings = []
    for name in ("loss", "accuracy"):
        content = io.StringIO()
        # The salt also keeps the names of one drawing's parts apart from those of the other.
        with matplotlib.rc_context({**style, "svg.hashsalt": name}):  # pyright: ignore[reportArgumentType]
            figure = Figure(figsize=(4.2, 3.2), layout="constrained")
            draw_metric(figure.subplots(), name, histories, tests, lost)
            figure.savefig(content, format="svg")
        svg = content.getvalue()
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
        svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
        svg = svg.replace(_INK, "currentColor").replace("#444444", "currentColor")
        for kind, color in COLORS.items():
            svg = svg.replace(color, f"var(--{kind})")
        label = f"{name} by epoch"
        drawings.append(Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)))
    return drawings


def _net(path: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of the trained net, from its diagnostics."""
    arrays = read_arrays(path)
    try:
        label, prediction = arrays["label"], arrays["prediction"]
        count = max(len(arrays["probabilities"]), int(label.max()) + 1)
        names = [*map(str, arrays.get("class_name", range(count)))]
        matrix = np.zeros((count, count), int)
        np.add.at(matrix, (label, prediction), 1)
        wrong = [(int(n), i, j) for (i, j), n in np.ndenumerate(matrix) if i != j and n]
        totals, right = matrix.sum(axis=1), matrix.diagonal()
        shares = [f"{n / m:.2%}" if m else "none" for n, m in zip(right, totals, strict=True)]
        confused = sorted(wrong, reverse=True)[:20]
        return {
            "by": f" by seed {arrays['seed']}" if len(result["seeds"]) > 1 else "",
            "right": int(right.sum()),
            "samples": len(label),
            "matrix": matrix.tolist(),
            "most": max((n for n, *_ in wrong), default=1),
            "confused": [(f"{names[i]} taken for {names[j]}", n) for n, i, j in confused],
            "classes": [
                (name, f"{total:,}", share)
                for name, total, share in zip(names, totals, shares, strict=True)
            ],
            "figures": figures_of(arrays, names),
            "shape": ", ".join(map(str, arrays["image"].shape)),
            "drawable": arrays["image"].shape == (28, 28, 1),
            "layers": _layers(arrays, result["params_count"]),
        }
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} is of another version ({error}).") from error


def _layers(arrays: Mapping[str, np.ndarray], trainable: int) -> list[list[Any]]:
    """The rows of the net's layers, and the totals."""
    params = arrays["layer_params"]
    macs = [None if n < 0 else n for n in arrays["layer_macs"].tolist()]
    texts = zip(*(arrays[f"layer{x}"] for x in ("", "_kind", "_shape")), strict=True)
    rows = [
        [*text, f"{n:,}", total_text([m])] for text, n, m in zip(texts, params, macs, strict=True)
    ]
    rows.append(["total", "", "", f"{params.sum():,}", total_text(macs)])
    if trainable != params.sum():  # the rest are running statistics
        rows.append(["trainable", "", "", f"{trainable:,}", ""])
    return rows
