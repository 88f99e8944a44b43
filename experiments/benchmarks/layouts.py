"""Compares one training on several layouts of processes and devices.

    python experiments/benchmarks/layouts.py
    python experiments/benchmarks/layouts.py --nets dropout --layouts 1x1 2x2 --no-full

A layout is PROCESSESxDEVICES, with so many devices in each process. The script compares the others
with the first one given. Each runs as real processes, under `jaxconv.parallel.launch`. For each
net, all layouts take

- in float32 a step from equal states, on a batch that does not divide among the devices;
- in float64 twenty steps of `fit`, each from the layout's own last state, shuffled, with dropout
  if the net has it;
- unless --no-full, the whole experiment `--full` by its script, to the test accuracy.

The figures are the largest difference of any parameter. They show no speed: on a machine whose
cores one process fills already, more processes take longer. The script writes to
experiments/results/, or to --output.
"""

import argparse
import datetime
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.recipes import EXPERIMENTS, NOTEBOOKS
from experiments.benchmarks.subprocess_runner import RESULTS, run_launched, variables
from jaxconv.measure import environment
from jaxconv.runs import read_arrays, write_json

LAYOUTS = ("1x1", "1x2", "1x4", "2x1", "2x2", "4x1")


def run_layout(layout: str, script: str, *arguments: str) -> None:
    """Runs a script on a layout.

    Args:
      layout: PROCESSESxDEVICES.
      script: its path, relative to this folder.
      *arguments: its command line.

    Raises:
      RuntimeError: if it fails, with the end of what it printed.
    """
    processes, devices = map(int, layout.split("x"))
    code, printed = run_launched(processes, devices, script, arguments, {"JAX_PLATFORMS": "cpu"})
    if code:
        end = "\n".join(printed.splitlines()[-20:])
        raise RuntimeError(f"{script} on {layout} ended with {code}:\n{end}")


def mesh_size(layout: str) -> int:
    """The number of devices of all processes of a layout."""
    processes, devices = map(int, layout.split("x"))
    return processes * devices


def max_differences(first: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest difference of any array of the float32 step, and of the float64 steps."""
    return {
        kind: max(
            float(np.max(np.abs(x - other[name]), initial=0.0))
            for name, x in first.items()
            if name.startswith(kind)
        )
        for kind in ("float32", "float64")
    }


def main(
    nets: Sequence[str] = tuple(NOTEBOOKS),
    layouts: Sequence[str] = LAYOUTS,
    full: str | None = "dense",
    epochs: int | None = None,
    output: Path | None = None,
) -> list[dict[str, Any]]:
    for layout in layouts:
        processes, _, devices = layout.partition("x")
        if not (processes.isdecimal() and devices.isdecimal() and int(processes) * int(devices)):
            raise ValueError(f"A layout is PROCESSESxDEVICES, such as 2x2, not {layout!r}.")
    now = datetime.datetime.now(datetime.UTC)
    output = output or RESULTS / f"layouts-{now:%Y%m%dT%H%M%S}.json"
    if output.exists():
        raise FileExistsError(f"{output} is there already: name another --output.")
    output.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    content = {"date": f"{now:%Y-%m-%d}", "variables": variables(), "environment": environment()}
    print(
        "| net | processes × devices | a float32 step | 20 float64 steps | test accuracy | loss |"
    )
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for net in nets:
            found: list[dict[str, np.ndarray]] = []
            for layout in layouts:
                path, equal = Path(folder, f"{net}-{layout}.npz"), Path(folder, f"{net}.npz")
                run_layout(layout, "layout_steps.py", net, str(equal), str(path))
                found.append(read_arrays(path))
                row: dict[str, Any] = {"net": net, "layout": layout}
                row |= max_differences(found[0], found[-1])
                if net == full:
                    own = Path(folder, f"run-{layout}")
                    more = [] if epochs is None else ["--epochs", str(epochs)]
                    script = str(EXPERIMENTS[net].__file__)
                    run_layout(layout, script, "--quiet", "--output-dir", str(own), *more)
                    result = json.loads((own / "result.json").read_text())
                    names = ("test_accuracy", "test_loss", "devices", "processes", "seconds_train")
                    row |= {name: result[name] for name in names}
                    if row["devices"] != mesh_size(layout):
                        raise RuntimeError(f"{layout} trained on {row['devices']} devices.")
                rows.append(row)
                cells = [net, layout.replace("x", " × ")]
                cells += [f"{row[kind]:.1e}" for kind in ("float32", "float64")]
                cells += [
                    f"{row[x]:.4f}" if x in row else "" for x in ("test_accuracy", "test_loss")
                ]
                print(f"| {' | '.join(cells)} |", flush=True)
                write_json(output, {"benchmark": "layouts", **content, "rows": rows})
    print(f"\nResults: {output}")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--nets", nargs="+", choices=NOTEBOOKS, default=list(NOTEBOOKS), help="Nets (all)."
    )
    parser.add_argument(
        "--layouts", nargs="+", default=list(LAYOUTS), metavar="PxD", help="Layouts (all)."
    )
    parser.add_argument(
        "--full", choices=NOTEBOOKS, default="dense", help="The net to train as a whole (dense)."
    )
    parser.add_argument(
        "--no-full", dest="full", action="store_const", const=None, help="Train no net as a whole."
    )
    parser.add_argument("--epochs", type=int, help="Its epochs (the notebook's).")
    parser.add_argument("--output", type=Path, help="The JSON file to write.")
    given = parser.parse_args()
    try:
        main(**vars(given))
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError) as error:
        parser.error(str(error))
