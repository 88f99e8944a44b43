"""Shows how far data parallelism goes: measures 1, 2 and 4 processes, derives 8 to 4,096 devices.

    python experiments/benchmarks/scaling.py
    python experiments/benchmarks/scaling.py --nets strided --processes 2 --rounds 1 --seconds 0.1

The script measures these on CPU, with one device a process, in rounds over all cases; each case is
fresh processes under `jaxconv.parallel.launch`:

- one process' train step by its batch size, as each of many devices takes it;
- the step of several processes, which divide the notebook's batch (strong scaling) or get it each
  (weak scaling), and the step's all-reduces alone;
- an all-reduce by size, to which it fits the ring's latency and bandwidth (`fit_ring`);
- the all-reduces in the compiled step, for this backend's form of the convolutions and XLA's own.

From these it derives the step time, bytes and efficiency of more devices (`strong`, `weak`), over
this host's loopback as measured and over networks as their vendors publish them (`NETWORKS`), and
the number of devices at which communication takes as long as computation (`break_even`). The device
is always this CPU.

Figures are medians over the rounds. The script writes to experiments/results/, or to --output.
experiments/results/scaling.md discusses the figures.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.recipes import NOTEBOOKS
from experiments.benchmarks.scaling_tables import derived_tables, measured_tables
from experiments.benchmarks.subprocess_runner import new_output, reason, run_launched, variables
from jaxconv._checks import check_choice, check_positive
from jaxconv.runs import write_json

FLOATS = (1, 256, 4096, 16_384, 65_536, 262_144, 1_048_576)
"""Sizes of the single all-reduces, in float32 numbers."""
MAX_PROCESSES = 16
TIMEOUT = 1800.0


def run_processes(
    processes: int, case: Mapping[str, Any], cache: str, timeout: float = TIMEOUT
) -> dict[str, Any]:
    """Runs `measure_scaling.py` on so many processes.

    Returns:
      Its figures, or `{"error": why there are none}`.
    """
    own = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": cache}
    own |= {"JAX_TRACEBACK_FILTERING": "off"}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "report.json")
        given = [json.dumps(case), str(output)]
        try:
            code, printed = run_launched(processes, 1, "measure_scaling.py", given, own, timeout)
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {timeout:g} s"}
        if code:
            lines = [line.partition("] ")[2] or line for line in printed.splitlines()]
            return {"error": reason("\n".join(lines)) or f"exit code {code}"}
        return json.loads(output.read_text())


def cases(nets: Sequence[str], processes: Sequence[int]) -> list[dict[str, Any]]:
    """The rows to measure, in the order in which each round takes them."""
    found: list[dict[str, Any]] = []
    for number in processes:
        if number > 1:
            found.append({"case": f"all-reduce, {number} processes", "net": None})
            found[-1] |= {"processes": number, "floats": list(FLOATS)}
        for net in nets:
            size = NOTEBOOKS[net].batch_size
            sizes = [size, size * number]
            if number == 1:
                sizes = sorted({2**i for i in range(size.bit_length())} | {size, 2 * size})
            name = f"{net}, {number} process{'es' if number > 1 else ''}"
            found.append({"case": name, "net": net, "processes": number, "batches": sizes})
    return [case | {"reports": []} for case in found]


def main(
    nets: Sequence[str] = ("strided", "lab6"),
    processes: Sequence[int] = (1, 2, 4),
    rounds: int = 3,
    seconds: float = 2.0,
    output: Path | None = None,
) -> list[dict[str, Any]]:
    for net in nets:
        check_choice("net", net, NOTEBOOKS)
    for number in processes:
        check_positive("processes", number)
        if number > MAX_PROCESSES:
            raise ValueError(f"processes must be at most {MAX_PROCESSES}, not {number}.")
    if max(processes) == 1:
        raise ValueError("processes must name one number above 1: one alone adds nothing up.")
    check_positive("rounds", rounds)
    if not 0 < seconds < 3600:
        raise ValueError(f"seconds must be above 0 and below 3600, not {seconds}.")
    now = datetime.datetime.now(datetime.UTC)
    output = new_output(output, "scaling", f"{now:%Y%m%dT%H%M%S}")
    nets = list(dict.fromkeys(nets))
    rows = cases(nets, sorted({1, *processes}))  # the others are compared with one alone
    content: dict[str, Any] = {"benchmark": "scaling", "date": f"{now:%Y-%m-%d}"}
    content |= {"rounds": rounds, "seconds": seconds, "variables": variables(), "environment": {}}
    content["rows"] = rows
    measure(content, output)
    if not any("error" in row for row in rows):
        facts = content["environment"]
        title = f"{facts['cpu']}, {facts['cpu_count']} cores, jax {facts['jax_version']}"
        found = [*measured_tables(rows), *derived_tables(rows, nets)]
        print("\n\n".join([f"\n{content['date']}, {title}", *found]))
    print(f"\nResults: {output}")
    return rows


def measure(content: dict[str, Any], output: Path) -> None:
    """Measures every row of a result in rounds, and writes it after each measurement."""
    with tempfile.TemporaryDirectory() as cache:
        for number in range(content["rounds"]):
            for row in content["rows"]:
                if "error" in row:
                    continue
                case = {name: row[name] for name in ("net", "batches", "floats") if row.get(name)}
                case |= {"seconds": content["seconds"]}
                if number == 0 and row["net"] and row["processes"] > 1:
                    case["count"] = True
                report = run_processes(row["processes"], case, cache)
                if "error" in report:
                    row["error"] = report["error"]
                else:
                    content["environment"] = report.pop("environment")
                    row["reports"].append(report)
                line = row.get("error", "measured")
                print(f"round {number + 1}/{content['rounds']}, {row['case']}: {line}", flush=True)
                write_json(output, content)


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
    parser.add_argument(
        "--processes", nargs="+", type=int, default=[1, 2, 4], help="Numbers of processes (1 2 4)."
    )
    parser.add_argument("--rounds", type=int, default=3, help="Fresh processes of a case (3).")
    parser.add_argument("--seconds", type=float, default=2.0, help="Seconds of each figure (2).")
    parser.add_argument("--output", type=Path, help="The JSON file to write.")
    try:
        rows = main(**vars(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    sys.exit(any("error" in row for row in rows))
