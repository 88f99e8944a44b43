"""Makes the README's accuracy table: every notebook's net, over several seeds.

    python experiments/accuracy_table.py
    python experiments/accuracy_table.py --seeds 3 --nets lab6 strided

Each net trains five seeds; the two whose accuracy varies most train ten. A net is one run with
`--seeds`, which keeps its folder under runs/. The script prints the table as Markdown, and writes
the figures of every seed to experiments/results/accuracy.json, where they replace those of the same
net.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from experiments.benchmarks.recipes import EXPERIMENTS
from jaxconv._checks import check_positive
from jaxconv.measure import Summary, summarize
from jaxconv.runs import exit_codes, write_json

NETS = {"lab6": 5, "intro": 5, "strided": 10, "dropout": 5, "dense": 10}
"""How many seeds each net trains."""
RESULTS = Path(__file__).parent / "results" / "accuracy.json"
# No times: runs one after the other, on a machine in use, measure none.
FIELDS = (
    "seeds",
    "diverged",
    "params_count",
    "epochs",
    "steps",
    "test_loss_by_seed",
    "test_accuracy_by_seed",
    "strategy",
    "device_kind",
    "jax_version",
)


def main(nets: list[str], seeds: int | None, results: Path) -> None:
    if seeds is not None:
        check_positive("seeds", seeds)
    results.parent.mkdir(parents=True, exist_ok=True)
    runs: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    if not isinstance(runs, dict):
        raise ValueError(f"{results} has no entry a net, but a list: delete it, or name another.")
    for net in nets:
        module = EXPERIMENTS[net]
        result = module.main(module.CONFIG.replace(seeds=str(seeds or NETS[net]), quiet=True))
        runs[net] = {field: result[field] for field in FIELDS}
        write_json(results, runs)
    print_table(runs, nets)


def print_table(runs: dict[str, Any], nets: list[str]) -> None:
    """Prints the devices and the table of these nets."""
    devices = {(runs[net]["device_kind"], runs[net]["jax_version"]) for net in nets}
    print("\n" + "; ".join(f"{device}, jax {version}" for device, version in sorted(devices)))
    print("\n| net | params | seeds | test accuracy | min to max | 95% of the mean | test loss |")
    print("|---" * 7 + "|")
    for net in nets:
        run = runs[net]
        accuracy, loss = (figures(run, f"test_{name}_by_seed") for name in ("accuracy", "loss"))
        away = f", {len(run['diverged'])} diverged" if run["diverged"] else ""
        cells = [f"`{net}`", f"{run['params_count']:,}", f"{len(run['seeds'])}{away}"]
        reach, interval = "", ""
        if accuracy is not None:
            reach = f"{accuracy.min:.4f} to {accuracy.max:.4f}"
        if accuracy is not None and accuracy.low is not None:
            interval = f"{accuracy.low:.4f} to {accuracy.high:.4f}"
        cells += [str(accuracy or ""), reach, interval, str(loss or "")]
        print(f"| {' | '.join(cells)} |")


def figures(run: dict[str, Any], name: str) -> Summary | None:
    """The summary of a figure over the seeds that did not diverge; None if all did."""
    pairs = zip(run["seeds"], run[name], strict=True)
    kept = [value for seed, value in pairs if seed not in run["diverged"]]
    return summarize(kept) if kept else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, help="Seeds of each net (5; strided, dense 10).")
    parser.add_argument(
        "--nets", nargs="+", choices=NETS, default=list(NETS), help="The nets to train (all)."
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="The JSON file to write.")
    with exit_codes():
        arguments = parser.parse_args()
        main(arguments.nets, arguments.seeds, arguments.results)
