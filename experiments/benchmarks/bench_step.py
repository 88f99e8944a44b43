"""Times a train step, from tracing to the steady state, on the first device that JAX sees.

    python experiments/benchmarks/bench_step.py
    python experiments/benchmarks/bench_step.py --dtypes float32 bfloat16 --forms patches xla
    python experiments/benchmarks/bench_step.py --nets strided --sweep
    python experiments/benchmarks/bench_step.py --nets strided lab6 --seeds 2 8
    python experiments/benchmarks/bench_step.py --drivers loop stream

The cases are nets × batch sizes × dtypes × drivers × forms. The driver `step` is one jitted call a
step, on batches that lie on the device; `loop` is `train_epoch`, an epoch in one program, with its
shuffled gather. `stream`, only if asked for, reads the batches from a TFDS set on the disk (which
the script prepares first), ahead of the training in a thread, or in --workers.

Every measurement is a fresh process, in rounds over all cases. The first round compiles cold and
writes the persistent cache, which counts; the later ones read it. All rounds time the steady state,
in blocks of steps. Figures are medians over the rounds.

--seeds times so many replicas in one program beside one `loop`: mapped (`map`) and vmapped
(`vmap`). Their figures are those of one replica's step; the ratio is to the replica alone, both
from the same round. --sweep takes batch sizes from 1 to 1024.

FLOPs are nominal (`jaxconv.inspection.arithmetic`). Where a program is one step, XLA's own count
stands beside them (XLA counts the body of a loop once). The share is that of XLA's product of two
square matrices of the same dtype, measured in the same process.

The script needs jax, flax, optax, numpy and jaxtyping; matplotlib for the picture;
tensorflow-datasets and grain for `stream`. It writes to experiments/results/, or to --output.
"""

import argparse
import datetime
import importlib.util
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.bars import draw_bar
from experiments.benchmarks.recipes import NOTEBOOKS
from experiments.benchmarks.step_tables import medians, tables
from experiments.benchmarks.subprocess_runner import new_output, run_script, variables
from jaxconv._checks import check_natural, check_positive
from jaxconv.data import tfds
from jaxconv.runs import write_json

CASE = ("net", "batch_size", "dtype", "driver", "form", "replicas")
DRIVERS = ("step", "loop", "stream")
SWEEP = [1, 4, 16, 64, 256, 1024]


def in_fresh_process(case: dict[str, Any], seconds: float, cache: str) -> dict[str, Any]:
    """Measures a case; this process stays off the device.

    Returns:
      The figures, or `{"error": why there are none}`.
    """
    arguments = [json.dumps({**case, "seconds": seconds})]
    return run_script("measure_step.py", arguments, {"JAX_COMPILATION_CACHE_DIR": cache})


def main(
    nets: Sequence[str],
    batch_sizes: Sequence[int] | None = None,
    dtypes: Sequence[str] = ("float32",),
    drivers: Sequence[str] = ("step", "loop"),
    forms: Sequence[str | None] = (None,),
    replicas: Sequence[int] = (),
    rounds: int = 3,
    seconds: float = 5.0,
    workers: int = 0,
    output: Path | None = None,
) -> list[dict[str, Any]]:
    check_natural("workers", workers)
    for size in batch_sizes or ():
        check_positive("batch_sizes", size)
        if size > 60_000:
            raise ValueError(f"batch_sizes must be at most 60000, all of MNIST, not {size}.")
    for number in replicas:
        check_positive("seeds", number)
    if replicas:
        drivers = ["loop"]  # the one that they stand beside
    if rounds < 2:
        raise ValueError(
            f"rounds must be 2 or more, the first cold, the next cached; not {rounds}."
        )
    if not 0 < seconds < 3600:
        raise ValueError(f"seconds must be above 0 and below 3600, not {seconds}.")
    now = datetime.datetime.now(datetime.UTC)
    output = new_output(output, "bench-step", f"{now:%Y%m%dT%H%M%S}")
    rows = cases(nets, batch_sizes, dtypes, drivers, forms, replicas)
    settings = {"date": f"{now:%Y-%m-%d}", "rounds": rounds, "seconds": seconds}
    settings |= {"workers": workers, "variables": variables(), "environment": {}}
    content, title = {"benchmark": "step", **settings, "rows": rows}, ""
    try:
        run(content, output)
    finally:
        if content["environment"]:
            facts = content["environment"]
            title = (
                f"{facts['device_kind']}, {facts['cpu_count']} cores, jax {facts['jax_version']}"
            )
            print(f"\n{content['date']}, {title}\n\n{tables(rows)}\n\nResults: {output}")
    drawn = [figures(row) for row in rows if "summary" in row]
    if not importlib.util.find_spec("matplotlib"):
        print("matplotlib is missing: the picture is left out (pip install matplotlib).")
    elif drawn:
        plot_steps(drawn, output.with_suffix(".png"), title=title)
    return rows


def cases(
    nets: Sequence[str],
    batch_sizes: Sequence[int] | None,
    dtypes: Sequence[str],
    drivers: Sequence[str],
    forms: Sequence[str | None],
    replicas: Sequence[int],
) -> list[dict[str, Any]]:
    """The rows to measure, in the order in which each round takes them."""
    rows: list[dict[str, Any]] = []
    for net in dict.fromkeys(nets):
        sizes = dict.fromkeys(batch_sizes or [NOTEBOOKS[net].batch_size])
        for values in itertools.product(
            [net], sizes, *map(dict.fromkeys, (dtypes, drivers, forms))
        ):
            together = itertools.product(dict.fromkeys(replicas), ("map", "vmap"))
            for number, driver in [(1, values[3]), *together]:
                case = dict(zip(CASE, [*values, number], strict=True)) | {"driver": driver}
                names = [net, f"batch {values[1]}", *filter(None, (values[2], driver, values[4]))]
                if driver in ("map", "vmap"):
                    names.append(f"{number} replicas")
                rows.append(
                    {"case": ", ".join(names), **case, "unit": "s", "samples": [], "reports": []}
                )
    return rows


def run(content: dict[str, Any], output: Path) -> None:
    """Measures every row of a result in rounds, and writes it after each measurement."""
    with tempfile.TemporaryDirectory() as cache:
        stream_options = {"workers": content["workers"], "data_dir": f"{cache}/tfds"}
        if any(row["driver"] == "stream" for row in content["rows"]):
            tfds.prepare(data_dir=stream_options["data_dir"])
        for number in range(content["rounds"]):
            for i, row in enumerate(content["rows"]):
                if "error" in row:
                    continue
                case = {name: row[name] for name in CASE}
                case |= stream_options if row["driver"] == "stream" else {}
                report = in_fresh_process(case, content["seconds"], f"{cache}/{i}")
                if "error" in report:
                    row["error"] = line = report["error"]
                else:
                    content["environment"] = report.pop("environment")
                    row["reports"].append(report)
                    row["samples"].append(report["step_seconds"])
                    row["summary"] = medians(row["reports"])
                    line = f"{1e3 * report['step_seconds']:.3f} ms a step"
                print(f"round {number + 1}/{content['rounds']}, {row['case']}: {line}", flush=True)
                write_json(output, content)


def figures(row: dict[str, Any]) -> dict[str, Any]:
    """The figures of a row that the picture shows."""
    s, samples = row["summary"], row["samples"]
    started = s["trace_seconds"] + s["lower_seconds"] + s["first_call_seconds"]
    compiled = [s["compile_seconds_cold"], s["compile_seconds_cached"]]
    cold, cached = (None if value is None else started + value for value in compiled)
    return {
        "series": row["case"].replace(f", batch {row['batch_size']}", ""),
        "case": row["case"],
        "batch_size": row["batch_size"],
        "figures": {
            "ms a step": [1e3 * sample for sample in samples],
            "images a second": [row["batch_size"] / sample for sample in samples],
            "seconds to the first step, cold": [cold],
            "seconds to the first step, cached": [cached],
        },
    }


def plot_steps(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draws figures of train steps: bars, or lines over the batch size if there are several.

    Args:
      rows: each has `case`, `series` (the case without its batch size), `batch_size`, and
        `figures`: values by name, one a round. The picture shows their median, and no None.
      path: the PNG to write.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.figure import Figure

    names = list(rows[0]["figures"])
    swept = len({row["series"] for row in rows}) < len(rows)
    height = 3.6 if swept else 1.6 + 0.35 * len(rows)
    figure = Figure(figsize=(3.2 * len(names) + 1, height), layout="constrained")
    for name, axes in zip(names, figure.subplots(1, len(names), sharey=not swept), strict=True):
        (_lines if swept else _bars)(axes, rows, name)
        axes.spines[["top", "right"]].set_visible(False)
    if swept:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center")
    else:
        figure.axes[0].invert_yaxis()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _lines(axes: Any, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Draws the medians of one figure over the batch size, a line for each series."""
    from matplotlib.ticker import StrMethodFormatter

    for series in dict.fromkeys(row["series"] for row in rows):
        points = sorted(
            (row["batch_size"], statistics.median(row["figures"][name]))
            for row in rows
            if row["series"] == series and None not in row["figures"][name]
        )
        sizes, middle = ([point[i] for point in points] for i in (0, 1))
        axes.plot(sizes, middle, "o-", ms=4, label=series)
    sizes = sorted({row["batch_size"] for row in rows})
    axes.set(xlabel="batch size", ylabel=name, xscale="log", xticks=sizes)
    axes.set_xticklabels(sizes)
    axes.minorticks_off()
    values = [x for row in rows for x in row["figures"][name] if x is not None]
    if max(values, default=1) > 50 * min(values, default=1):
        axes.set(yscale="log")
    else:
        axes.set(ylim=(0, None))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.grid(alpha=0.25)


def _bars(axes: Any, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Draws one figure of every case as a bar."""
    for place, row in enumerate(rows):
        if None not in row["figures"][name]:
            draw_bar(axes, place, row["figures"][name], "train")
    axes.set(xlabel=name, yticks=range(len(rows)))
    axes.set_yticklabels([row["case"] for row in rows])
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.15)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--nets",
        nargs="+",
        choices=NOTEBOOKS,
        default=["strided", "lab6"],
        help="Nets (strided lab6).",
    )
    parser.add_argument("--batch-sizes", nargs="+", type=int, help="Batch sizes (the notebook's).")
    parser.add_argument("--sweep", action="store_true", help=f"Take the batch sizes {SWEEP}.")
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=("float32", "bfloat16"),
        default=["float32"],
        help="Dtypes (float32).",
    )
    parser.add_argument("--drivers", nargs="+", choices=DRIVERS, help="Drivers (step loop).")
    parser.add_argument(
        "--forms",
        nargs="+",
        choices=("patches", "xla"),
        help="Forms of the layers (the backend's).",
    )
    parser.add_argument("--seeds", nargs="+", type=int, help="Replicas in one program (none).")
    parser.add_argument(
        "--workers", type=int, default=0, help="Processes that read the stream (0: a thread)."
    )
    parser.add_argument("--rounds", type=int, default=3, help="Processes of a case (3).")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="Seconds of steady state in a process (5)."
    )
    parser.add_argument("--output", type=Path, help="The JSON file to write.")
    given = parser.parse_args()
    if given.sweep and given.batch_sizes:
        parser.error("--sweep and --batch-sizes exclude each other")
    if given.seeds and given.drivers:
        parser.error("--seeds and --drivers exclude each other: seeds run in loop, map and vmap")
    try:
        rows = main(
            given.nets,
            SWEEP if given.sweep else given.batch_sizes,
            given.dtypes,
            given.drivers or ["step", "loop"],
            given.forms or [None],
            given.seeds or [],
            given.rounds,
            given.seconds,
            given.workers,
            given.output,
        )
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    sys.exit(any("error" in row for row in rows))
