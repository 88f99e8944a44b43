"""Times the same work in Keras, PyTorch, stock Flax and jaxconv.

    python experiments/benchmarks/bench_peers.py --quick
    python experiments/benchmarks/bench_peers.py --nets lab6 --rounds 5

Warm speed: each peer trains two epochs of 300 full batches, and the clock takes the second; the
figure is scaled to an epoch of all samples. The peer then evaluates the 10,000 test images three
times in batches of 200, and the clock takes the last time.

Whole job: the time from the start of the process to the test accuracy, over the notebook's epochs
and with its validation. jaxconv finds its compiled programs in the cache, except in one more job,
which has none, as a first run.

Each measurement is a fresh process. A round takes the peers in turn, so that a machine that drifts
slows all of them; ratios are those within a round. Figures are medians, with the range over the
rounds. --quick takes one round of 100 warm steps of `lab6` and `strided`, within 5 minutes on 2
cores; the whole benchmark takes an hour.

The peers' packages: pip install -e '.[peers]'. The table shows which peer is missing or fails. The
script writes JSON after each measurement, and a picture at the end, to experiments/results/ or to
--output.
"""

import argparse
import dataclasses
import datetime
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.bars import draw_bar
from experiments.benchmarks.recipes import NOTEBOOKS
from experiments.benchmarks.subprocess_runner import ROOT, new_output, run_script, variables
from jaxconv._checks import check_installed, check_positive
from jaxconv.measure import host
from jaxconv.runs import write_json

DATA = ROOT / "jaxconv" / "_data" / "mnist.npz"
INSTALL = "pip install -e '.[peers]'"


@dataclasses.dataclass(frozen=True)
class Peer:
    """A library: a script of `peers/`, and variables that name the variant to run."""

    script: str
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


JAXCONV = "jaxconv"
COLD = "jaxconv, first run"
PEERS = {
    "Keras on TensorFlow": Peer("keras_peer.py", {"KERAS_BACKEND": "tensorflow"}),
    "Keras on JAX": Peer("keras_peer.py", {"KERAS_BACKEND": "jax"}),
    "Keras on torch": Peer("keras_peer.py", {"KERAS_BACKEND": "torch"}),
    "PyTorch": Peer("torch_peer.py", {"TORCH_PEER": "eager"}),
    "PyTorch, torch.compile": Peer("torch_peer.py", {"TORCH_PEER": "compile"}),
    "stock Flax": Peer("flax_peer.py"),
    JAXCONV: Peer("jaxconv_peer.py"),
}
JOBS = ("Keras on TensorFlow", "PyTorch", JAXCONV)
JOB_ROUNDS = {"lab6": 3, "strided": 3}


def measure(peer: Peer, net: str, cache: str, *arguments: str) -> dict[str, Any]:
    """The report of a peer's fresh process, or `{"error": why there is none}`."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_COMPILATION_CACHE_DIR": cache}
    settings = json.dumps(NOTEBOOKS[net]._asdict())
    started = ["--data", str(DATA), "--started", str(time.time())]
    return run_script(
        f"peers/{peer.script}",
        [net, settings, *started, *arguments],
        environment | peer.environment,
    )


class Record:
    """All measurements so far; each is written at once, so that a long run loses none."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        self.content = {"benchmark": "peers", **settings, "versions": {}, "rows": []}

    def add(
        self,
        net: str,
        kind: str,
        peer: str,
        report: dict[str, Any],
        scale: float = 1.0,
        field: str = "seconds",
    ) -> str:
        """Keeps a report under its case, with its field times `scale`; returns a line to print."""
        row = self.rows.setdefault(
            f"{net}, {kind}, {peer}",
            {"net": net, "kind": kind, "peer": peer, "unit": "s", "samples": [], "reports": []},
        )
        row["reports"].append(report)
        row["samples"].append(scale * report[field] if field in report else None)
        self.content["versions"].update(report.get("versions", {}))
        self.content["rows"] = [{"case": case, **row} for case, row in self.rows.items()]
        write_json(self.path, self.content)
        if "error" in report:
            return f"{report['error']} ({INSTALL})"
        return f"{row['samples'][-1]:.2f} s"

    def cells(self, net: str, kind: str, peer: str, digits: int = 1) -> list[str]:
        """The table's cells of a row: its median and its ratio to jaxconv, each with the range."""
        row = self.rows.get(f"{net}, {kind}, {peer}")
        own = self.rows.get(f"{net}, {kind}, {JAXCONV}")
        if row is None:
            return ["", ""]
        done = [sample for sample in row["samples"] if sample is not None]
        if not done:
            missing = any("No module named" in report["error"] for report in row["reports"])
            return [f"{'not installed' if missing else 'failed'}: `{INSTALL}`", ""]
        lost = len(row["samples"]) - len(done)
        failed = f", failed in {lost} of {len(row['samples'])} rounds" if lost else ""
        pairs = zip(row["samples"], own["samples"] if own else [], strict=False)
        ratios = [theirs / ours for theirs, ours in pairs if theirs and ours]
        return [
            format_range(done, digits) + failed,
            format_range(ratios, digits=2) if ratios else "",
        ]


def format_range(values: Sequence[float], digits: int = 1) -> str:
    """Writes `median (least to most)`; a single value has no range.

    Example:
      >>> format_range([1.0, 4.0, 2.0])
      '2.0 (1.0 to 4.0)'
    """
    median = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(record: Record, net: str) -> str:
    """The Markdown table of a net."""
    lines = [
        f"`{net}`, batch {NOTEBOOKS[net].batch_size}\n",
        "| | s an epoch, warm | ÷ jaxconv | evaluation, s | ÷ jaxconv | whole job, s | ÷ jaxconv | "
        "accuracy | peak RSS, MiB |",
        "|---" * 9 + "|",
    ]
    for peer in (*PEERS, COLD):
        cells = [*record.cells(net, "warm", peer), *record.cells(net, "evaluation", peer, 2)]
        cells += record.cells(net, "job", peer)
        reports = record.rows.get(f"{net}, job, {peer}", {}).get("reports", [])
        done = [report for report in reports if "seconds" in report]
        accuracy = format_range([report["accuracy"] for report in done], 4) if done else ""
        memory = [report["peak_rss_bytes"] / 2**20 for report in done]
        cells += [accuracy, f"{statistics.median(memory):.0f}" if memory else ""]
        if any(cells):
            lines.append(f"| {peer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(nets: Sequence[str], steps: int, rounds: int, jobs: bool, record: Record) -> None:
    """Takes all measurements, and prints a line for each."""

    def log(*parts: str) -> None:
        print(f"{datetime.datetime.now():%H:%M:%S}", *parts, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for net in nets:
                notebook = NOTEBOOKS[net]
                samples = int(60_000 * (1 - notebook.validation_split))
                scale = samples / notebook.batch_size / steps
                for name, peer in PEERS.items():
                    report = measure(peer, net, f"{folder}/warm", "--steps", str(steps))
                    line = record.add(net, "warm", name, report, scale)
                    record.add(net, "evaluation", name, report, field="evaluation_seconds")
                    log(f"round {number + 1}/{rounds}, {net}, {name}, an epoch warm:", line)
        for net in nets if jobs else ():
            cache = f"{folder}/{net}"  # nothing is in it yet
            report = measure(PEERS[JAXCONV], net, cache)
            log(f"{net}, {COLD}, whole job:", record.add(net, "job", COLD, report))
            for number in range(JOB_ROUNDS.get(net, 1)):
                for name in JOBS:
                    line = record.add(net, "job", name, measure(PEERS[name], net, cache))
                    log(f"round {number + 1}, {net}, {name}, whole job:", line)


def main(
    nets: Sequence[str],
    steps: int = 300,
    rounds: int = 3,
    jobs: bool = True,
    output: Path | None = None,
) -> Path:
    check_installed("run")
    nets = list(dict.fromkeys(nets))
    check_positive("steps", steps)
    check_positive("rounds", rounds)
    most = min(60_000 // NOTEBOOKS[net].batch_size for net in nets)
    if steps > most:
        raise ValueError(f"steps must be at most {most}, an epoch's, not {steps}.")
    now = datetime.datetime.now(datetime.UTC)
    output = new_output(output, "bench-peers", f"{now:%Y%m%dT%H%M%S}")
    facts = host()
    setting = f"{steps} warm steps, rounds: {rounds}; {facts['cpu']}, {facts['cpu_count']} cores"
    print(f"{now:%Y-%m-%d}, {setting}", flush=True)
    settings = {"date": f"{now:%Y-%m-%d}", "steps": steps, "rounds": rounds, "machine": facts}
    record = Record(output, {**settings, "variables": variables()})
    try:
        run(nets, steps, rounds, jobs, record)
    finally:
        measured = [net for net in nets if any(row["net"] == net for row in record.rows.values())]
        print(*("\n" + table(record, net) for net in measured), sep="\n")
        if measured:
            print(f"\nResults: {output}")
    plot_peers(record.content["rows"], output.with_suffix(".png"), title=setting)
    return output


def plot_peers(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draws the time of each library for the same work, as bars with the range over the rounds.

    Args:
      rows: each has `net`, `kind` (`"warm"`, `"evaluation"` or `"job"`), `peer` and `samples`: the
        seconds of each round, or None where it failed. A peer that always failed has no bar.
      path: the PNG to write.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.figure import Figure

    kinds = {
        "warm": "seconds an epoch, warm",
        "evaluation": "seconds for 10,000 test images, warm",
        "job": "seconds from process start to test accuracy",
    }
    kinds = {kind: label for kind, label in kinds.items() if any(r["kind"] == kind for r in rows)}
    nets = list(dict.fromkeys(row["net"] for row in rows))
    figure = Figure(figsize=(3.4 * len(nets) + 1.2, 2.9 * len(kinds) + 0.4), layout="constrained")
    grid = figure.subplots(len(kinds), len(nets), squeeze=False, sharey="row")
    for kind, line in zip(kinds, grid, strict=True):
        peers = list(dict.fromkeys(row["peer"] for row in rows if row["kind"] == kind))
        for net, axes in zip(nets, line, strict=True):
            for row in rows:
                samples = [sample for sample in row["samples"] if sample is not None]
                if (row["net"], row["kind"]) == (net, kind) and samples:
                    color = "train" if row["peer"].startswith("jaxconv") else "peer"
                    draw_bar(axes, peers.index(row["peer"]), samples, color)
            axes.set(title=net, xlabel=kinds[kind], yticks=range(len(peers)), yticklabels=peers)
            axes.set_xlim(0, axes.get_xlim()[1] * 1.12)
            axes.spines[["top", "right"]].set_visible(False)
        line[0].invert_yaxis()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    nets = ["strided", "lab6", "intro", "dropout"]
    parser.add_argument("--nets", nargs="+", choices=NOTEBOOKS, help=f"Nets ({' '.join(nets)}).")
    parser.add_argument("--steps", type=int, help="Warm steps on the clock (300).")
    parser.add_argument("--rounds", type=int, help="Rounds of warm steps (3).")
    parser.add_argument("--no-jobs", action="store_true", help="Measure the warm steps alone.")
    parser.add_argument("--quick", action="store_true", help="Take at most 5 minutes: see above.")
    parser.add_argument("--output", type=Path, help="The JSON file to write.")
    given = parser.parse_args()
    quick = given.quick
    try:
        main(
            given.nets or (["strided", "lab6"] if quick else nets),
            (100 if quick else 300) if given.steps is None else given.steps,
            (1 if quick else 3) if given.rounds is None else given.rounds,
            not (quick or given.no_jobs),
            given.output,
        )
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError) as error:
        parser.error(str(error))
