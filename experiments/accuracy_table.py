"""The README's accuracy table: every notebook's net, over several seeds.

    python experiments/accuracy_table.py
    python experiments/accuracy_table.py --seeds 3 --nets lab6 strided

Each run keeps its folder under runs/. The table goes to stdout as Markdown, the figures of every
run to experiments/results/accuracy.json, in place of those that it held of the same net.
"""

import argparse
import importlib
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from jaxconv.checks import check_positive

NETS = ("lab6", "intro", "strided", "dropout", "dense")
RESULTS = Path(__file__).parent / "results" / "accuracy.json"
# Times are left out: runs one after the other on a machine in use are no measurement.
FIELDS = (
    "experiment",
    "seed",
    "params_count",
    "epochs",
    "steps",
    "test_loss",
    "test_accuracy",
    "device_kind",
    "jax_version",
)


def main(nets: list[str], seeds: int, results: Path) -> None:
    check_positive("seeds", seeds)
    results.parent.mkdir(parents=True, exist_ok=True)
    runs: list[dict[str, Any]] = json.loads(results.read_text()) if results.exists() else []
    for net in nets:
        module = importlib.import_module(net)  # beside this script, which Python has on its path
        runs = [run for run in runs if run["experiment"] != net]
        for seed in range(seeds):
            result = module.main(module.Config(seed=seed, quiet=True))
            runs.append({field: result[field] for field in FIELDS})
            results.write_text(json.dumps(runs, indent=1) + "\n")
    print(f"\nseeds 0 to {seeds - 1}, {runs[-1]['device_kind']}, jax {runs[-1]['jax_version']}\n")
    print("| net | params | epochs | test accuracy | test loss |\n|---|---|---|---|---|")
    for net in nets:
        rows = [run for run in runs if run["experiment"] == net]
        accuracy, loss = (
            _spread([row[f"test_{name}"] for row in rows]) for name in ("accuracy", "loss")
        )
        print(
            f"| `{net}` | {rows[0]['params_count']:,} | {rows[0]['epochs']} | {accuracy} | {loss} |"
        )


def _spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviation}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ... a net (default: 3)")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--results", type=Path, default=RESULTS, help="the JSON file to write")
    arguments = parser.parse_args()
    try:
        main(arguments.nets, arguments.seeds, arguments.results)
    except KeyboardInterrupt:
        sys.exit(130)
    except ValueError as error:
        parser.error(str(error))
