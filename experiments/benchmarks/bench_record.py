"""Times the speed record's recipe in jaxconv and in PyTorch, eager and compiled.

    python experiments/benchmarks/bench_record.py

A round starts two fresh processes of each library, in turn. The first trains six times, and gives
the median of the last five: the time from the first weights to the trained ones, with everything
compiled and all digits in memory. The second trains once, and gives the time from the start of the
process to the test accuracy; jaxconv finds its compiled programs in the cache. Figures are medians,
with the range over the rounds; ratios are those within a round.

PyTorch's package: pip install -e '.[peers]'. A library that is missing or fails is named.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from experiments.benchmarks.bench_peers import DATA, format_range
from experiments.benchmarks.subprocess_runner import run_script
from experiments.records import speed
from jaxconv._checks import check_positive
from jaxconv.measure import environment
from jaxconv.runs import exit_codes, write_json

PEERS = {
    "jaxconv": ("speed_jaxconv.py", {}),
    "PyTorch": ("speed_torch.py", {"TORCH_PEER": "eager"}),
    "PyTorch, torch.compile": ("speed_torch.py", {"TORCH_PEER": "compile"}),
}


def measure(peer: str, *arguments: str) -> dict[str, Any]:
    """The report of a fresh process, or `{"error": why there is none}`."""
    script, environment = PEERS[peer]
    recipe = json.dumps(dataclasses.asdict(speed.RECORD))
    started = ["--data", str(DATA), "--started", str(time.time())]
    return run_script(f"peers/{script}", [recipe, *started, *arguments], environment)


def main(rounds: int, output: Path | None) -> dict[str, Any]:
    check_positive("rounds", rounds)
    kinds = {"seconds": ("--times", "5"), "whole_seconds": ("--times", "0")}
    samples = {kind: {peer: [] for peer in PEERS} for kind in kinds}
    accuracies, versions = {peer: [] for peer in PEERS}, {}
    measure("jaxconv")  # compiles
    for _ in range(rounds):
        for kind, arguments in kinds.items():
            for peer in PEERS:
                report = measure(peer, *arguments)
                if "error" in report:
                    print(f"{peer}: {report['error']}", flush=True)
                    continue
                samples[kind][peer].append(report[kind])
                accuracies[peer].append(report["accuracy"])
                versions[peer] = report["version"]
    content = {**environment(), "rounds": rounds, **samples}
    content |= {"accuracy": accuracies, "versions": versions}
    if output is not None:
        write_json(output, content)
    print("| library | training | to jaxconv's | whole process | to jaxconv's |")
    print("|---" * 5 + "|")
    for peer in PEERS:
        cells = [peer]
        for kind in kinds:
            own, theirs = samples[kind]["jaxconv"], samples[kind][peer]
            ratios = [b / a for a, b in zip(own, theirs, strict=False)]
            cells += [format_range(x, 2) if x else "" for x in (theirs, ratios)]
        print(f"| {' | '.join(cells)} |")
    return content


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="Rounds (5).")
    parser.add_argument("--output", type=Path, help="A JSON file for all measurements.")
    with exit_codes():
        given = parser.parse_args()
        main(given.rounds, given.output)
