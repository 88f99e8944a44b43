"""What a train step costs, from tracing to the steady state, on whatever device JAX sees.

    python experiments/benchmarks/bench_step.py
    python experiments/benchmarks/bench_step.py --nets lab6 --dtypes float32 bfloat16 --forms patches xla
    python experiments/benchmarks/bench_step.py --nets strided --sweep
    python experiments/benchmarks/bench_step.py --nets strided lab6 --seeds 2 8
    python experiments/benchmarks/bench_step.py --drivers loop stream

Nets × batch sizes × dtypes × drivers × forms, on the first device. The driver `step` is one jitted
call a step, on batches that lie on the device; `loop` is `train_epoch`, an epoch in one program,
with its shuffled gather; `stream`, if it is asked for, reads the batches from a TFDS set on the
disk (which it prepares first), ahead of the training in a thread, or in --workers. Every
measurement is a fresh process, in rounds over all cases. The first round compiles cold (and writes
the cache, which counts), the later ones read its persistent cache; all of them time the steady
state, in blocks of steps. Figures are medians over the rounds.

--seeds times, beside one `loop`, so many replicas in one program, mapped (`map`) and vmapped
(`vmap`). Their figures are those of one replica's step; the ratio is to the replica alone, both
from the same round.

FLOPs are nominal (`jaxconv.inspection.arithmetic`), beside XLA's own count where a program is one step (of a
loop XLA counts the body once). The share is that of XLA's product of two square matrices of the
same dtype, measured in the same process. --sweep takes batch sizes from 1 to 1024.

It needs jax, flax, optax, numpy and jaxtyping; matplotlib for the picture; tensorflow-datasets and
grain for `stream`. Written to
experiments/results/, or where --output says.
"""

import argparse
import datetime
import importlib.util
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.keras_nets import NOTEBOOKS
from experiments.benchmarks.subprocess_runner import RESULTS, run_child, variables
from jaxconv._checks import check_natural, check_positive
from jaxconv.data import tfds
from jaxconv.runs.files import write_json
from jaxconv.runs.plots import plot_steps

CASE = ("net", "batch_size", "dtype", "driver", "form", "replicas")
DRIVERS = ("step", "loop", "stream")
SWEEP = [1, 4, 16, 64, 256, 1024]


def in_fresh_process(case: dict[str, Any], seconds: float, cache: str) -> dict[str, Any]:
    """A case's figures, or `{"error": why there are none}`; this process stays off the device."""
    arguments = [json.dumps({**case, "seconds": seconds})]
    return run_child("measure_step.py", arguments, {"JAX_COMPILATION_CACHE_DIR": cache})


def summary_of(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The medians over the rounds, with what compiles cold apart from what reads the cache."""
    numbers = {
        name: statistics.median(report[name] for report in reports)
        for name, value in reports[0].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    for cached, kind in ((False, "cold"), (True, "cached")):
        for name in ("compile_seconds", "peak_rss_bytes"):
            values = [report[name] for report in reports if report["from_cache"] == cached]
            numbers[f"{name}_{kind}"] = statistics.median(values) if values else None
    return numbers


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """The Markdown tables of what comes before the first step, and of the steady state."""
    before = [
        "| seconds until the first step is done | trace | lower | compile, cold | cached | "
        "first call | peak MiB, cold | cached | device |"
    ]
    steady = [
        "| steady state | ms a step | p95 of blocks | blocks | images/s | MFLOP an image | XLA's | "
        "GFLOP/s | of matmul |"
    ]
    before.append("|---" * 9 + "|")
    steady.append("|---" * 9 + "|")
    for row in rows:
        if "summary" not in row:
            continue
        s, ms = row["summary"], [1e3 * sample for sample in row["samples"]]
        seconds = ("trace_seconds", "lower_seconds", "compile_seconds_cold")
        seconds += ("compile_seconds_cached", "first_call_seconds")
        peaks = ("peak_rss_bytes_cold", "peak_rss_bytes_cached", "peak_device_bytes")
        cells = [_cell(s.get(name), 1.0, 2) for name in seconds]
        cells += [_cell(s.get(name), 2**-20, 0) for name in peaks]
        before.append(f"| {row['case']} | {' | '.join(cells)} |")
        per_image = 1e-6 / row["batch_size"]
        cells = [
            f"{statistics.median(ms):.3f} ({min(ms):.3f} to {max(ms):.3f})",
            _cell(s["step_seconds_p95"], 1e3, 3),
            f"{len(ms)} × {s['samples']:.0f} of {s['steps_a_sample']:.0f}",
            _cell(s["images_per_second"], 1.0, 0),
            _cell(s["nominal_flops"], per_image, 2),
            _cell(s.get("xla_flops"), per_image, 2),
            _cell(s["flops_per_second"], 1e-9, 1),
            _cell(s["matmul_share"], 1.0, 2),
        ]
        steady.append(f"| {row['case']} | {' | '.join(cells)} |")
    together = seeds_table(rows)
    failed = [f"{row['case']}: failed, {row['error']}" for row in rows if "error" in row]
    return "\n".join([*before, "", *steady, *together, *failed])


def seeds_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The Markdown table of replicas in one program against one alone; empty without any."""
    table = []
    for row in rows:
        if row["driver"] not in ("map", "vmap"):
            continue
        same = ("net", "batch_size", "dtype", "form")
        alone = [
            other
            for other in rows
            if other["driver"] == "loop" and all(other[key] == row[key] for key in same)
        ]
        if "summary" not in row or "summary" not in alone[0]:
            continue
        pairs = zip(row["samples"], alone[0]["samples"], strict=False)
        ratios = [together / one for together, one in pairs]
        s, one = row["summary"], alone[0]["summary"]
        cells = [
            f"{1e3 * s['step_seconds']:.3f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            *(
                _cell(x[f"compile_seconds_{k}"], 1.0, 2)
                for k in ("cold", "cached")
                for x in (s, one)
            ),
            _cell(s["peak_rss_bytes"], 2**-20, 0),
        ]
        table.append(f"| {row['case']} | {' | '.join(cells)} |")
    if not table:
        return []
    head = (
        "| replicas in one program | ms a step of each | ÷ one alone | compile s, cold | one alone "
    )
    return ["", head + "| cached | one alone | peak MiB |", "|---" * 8 + "|", *table]


def _cell(value: float | None, scale: float, digits: int) -> str:
    return "" if value is None else f"{scale * value:,.{digits}f}"


def figures(row: dict[str, Any]) -> dict[str, Any]:
    """What the picture shows of a row."""
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
    output = output or RESULTS / f"bench-step-{now:%Y%m%dT%H%M%S}.json"
    if output.suffix != ".json":
        raise ValueError(f"output must be a NAME.json, not {str(output)!r}.")
    if output.exists():
        raise FileExistsError(f"{output} is there already: name another --output.")
    output.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for net in dict.fromkeys(nets):
        sizes = dict.fromkeys(batch_sizes or [NOTEBOOKS[net].batch_size])
        for values in itertools.product(
            [net], sizes, *map(dict.fromkeys, (dtypes, drivers, forms))
        ):
            several = itertools.product(dict.fromkeys(replicas), ("map", "vmap"))
            for number, driver in [(1, values[3]), *several]:
                case = dict(zip(CASE, [*values, number], strict=True)) | {"driver": driver}
                names = [net, f"batch {values[1]}", *filter(None, (values[2], driver, values[4]))]
                if driver in ("map", "vmap"):
                    names.append(f"{number} replicas")
                rows.append(
                    {"case": ", ".join(names), **case, "unit": "s", "samples": [], "reports": []}
                )
    settings = {"date": f"{now:%Y-%m-%d}", "rounds": rounds, "seconds": seconds}
    settings |= {"workers": workers, "variables": variables(), "environment": {}}
    content, about = {"benchmark": "step", **settings, "rows": rows}, ""
    try:
        run(content, output)
    finally:
        if content["environment"]:
            facts = content["environment"]
            about = (
                f"{facts['device_kind']}, {facts['cpu_count']} cores, jax {facts['jax_version']}"
            )
            print(f"\n{content['date']}, {about}\n\n{tables(rows)}\n\nResults: {output}")
    drawn = [figures(row) for row in rows if "summary" in row]
    if not importlib.util.find_spec("matplotlib"):
        print("matplotlib is missing: the picture is left out (pip install matplotlib).")
    elif drawn:
        plot_steps(drawn, output.with_suffix(".png"), title=about)
    return rows


def run(content: dict[str, Any], output: Path) -> None:
    """Measures every row of a result in rounds, and writes it after each measurement."""
    with tempfile.TemporaryDirectory() as cache:
        of_stream = {"workers": content["workers"], "data_dir": f"{cache}/tfds"}
        if any(row["driver"] == "stream" for row in content["rows"]):
            tfds.prepare(data_dir=of_stream["data_dir"])
        for number in range(content["rounds"]):
            for i, row in enumerate(content["rows"]):
                if "error" in row:
                    continue
                case = {name: row[name] for name in CASE}
                case |= of_stream if row["driver"] == "stream" else {}
                report = in_fresh_process(case, content["seconds"], f"{cache}/{i}")
                if "error" in report:
                    row["error"] = said = report["error"]
                else:
                    content["environment"] = report.pop("environment")
                    row["reports"].append(report)
                    row["samples"].append(report["step_seconds"])
                    row["summary"] = summary_of(row["reports"])
                    said = f"{1e3 * report['step_seconds']:.3f} ms a step"
                print(f"round {number + 1}/{content['rounds']}, {row['case']}: {said}", flush=True)
                write_json(output, content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", choices=NOTEBOOKS, default=["strided", "lab6"])
    parser.add_argument("--batch-sizes", nargs="+", type=int, help="(the notebook's)")
    parser.add_argument("--sweep", action="store_true", help=f"batch sizes {SWEEP}")
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--drivers", nargs="+", choices=DRIVERS, help="(step loop)")
    parser.add_argument("--forms", nargs="+", choices=("patches", "xla"), help="(the backend's)")
    parser.add_argument("--seeds", nargs="+", type=int, help="replicas in one program (none)")
    parser.add_argument("--workers", type=int, default=0, help="that read the stream (0: a thread)")
    parser.add_argument("--rounds", type=int, default=3, help="processes a case (3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of steady state a process (5)")
    parser.add_argument("--output", type=Path, help="the JSON file to write")
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
