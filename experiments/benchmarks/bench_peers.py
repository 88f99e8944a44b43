"""The same work in Keras, PyTorch, stock Flax and jaxconv, side by side.

    python experiments/benchmarks/bench_peers.py --quick
    python experiments/benchmarks/bench_peers.py --nets lab6 --rounds 5

Warm speed: every peer trains two epochs of 300 full batches; the second is on the clock, given as
seconds an epoch of all samples. It then evaluates the 10,000 test images three times in batches of
200, the last time on the clock. Whole job: from the start of the process to the test accuracy, over
the notebook's epochs, with its validation; for jaxconv with its compiled programs in the cache, and
once without, as a first run has it. Each measurement is a fresh process, in rounds that take the
peers in turn, so that a machine that drifts hits all alike; ratios are taken within a round.
Figures are medians, with the range over the rounds. --quick is one round of 100 warm steps of
`lab6` and `strided`, within 5 minutes on 2 cores; all of it takes an hour.

The peers' packages: pip install -e '.[peers]'. One that is missing or fails is shown as such.
Written to experiments/results/, or where --output says: JSON after each measurement, and a picture.
"""

import argparse
import dataclasses
import datetime
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.keras_nets import NOTEBOOKS
from experiments.benchmarks.subprocess_runner import RESULTS, ROOT, run_child, variables
from jaxconv._checks import check_positive
from jaxconv.measure.environment import host
from jaxconv.runs.files import write_json
from jaxconv.runs.plots import plot_peers

DATA = ROOT / "jaxconv" / "_data" / "mnist.npz"
INSTALL = "pip install -e '.[peers]'"


@dataclasses.dataclass(frozen=True)
class Peer:
    """A library, as a script of `peers/` and what tells that script which one it is."""

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
    """What a fresh process of a peer reports, or `{"error": why it does not}`."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_COMPILATION_CACHE_DIR": cache}
    started = ["--data", str(DATA), "--started", str(time.time())]
    return run_child(
        f"peers/{peer.script}", [net, *started, *arguments], environment | peer.environment
    )


class Record:
    """All measurements so far, on disk after each: what a long run has measured is never lost."""

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
        """Keeps a report under its case, its field times `scale`; returns a line about it."""
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
        """A row's median and ratio to jaxconv, each with its range, for the table."""
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
        return [summarize(done, digits) + failed, summarize(ratios, digits=2) if ratios else ""]


def summarize(values: Sequence[float], digits: int = 1) -> str:
    """`median (least to most)`."""
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
        accuracy = summarize([report["accuracy"] for report in done], 4) if done else ""
        memory = [report["peak_rss_bytes"] / 2**20 for report in done]
        cells += [accuracy, f"{statistics.median(memory):.0f}" if memory else ""]
        if any(cells):
            lines.append(f"| {peer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(nets: Sequence[str], steps: int, rounds: int, jobs: bool, record: Record) -> None:
    """Takes all measurements, a line each."""

    def say(*parts: str) -> None:
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
                    say(f"round {number + 1}/{rounds}, {net}, {name}, an epoch warm:", line)
        for net in nets if jobs else ():
            cache = f"{folder}/{net}"  # nothing is in it yet
            report = measure(PEERS[JAXCONV], net, cache)
            say(f"{net}, {COLD}, whole job:", record.add(net, "job", COLD, report))
            for number in range(JOB_ROUNDS.get(net, 1)):
                for name in JOBS:
                    line = record.add(net, "job", name, measure(PEERS[name], net, cache))
                    say(f"round {number + 1}, {net}, {name}, whole job:", line)


def main(
    nets: Sequence[str],
    steps: int = 300,
    rounds: int = 3,
    jobs: bool = True,
    output: Path | None = None,
) -> Path:
    nets = list(dict.fromkeys(nets))
    check_positive("steps", steps)
    check_positive("rounds", rounds)
    most = min(60_000 // NOTEBOOKS[net].batch_size for net in nets)
    if steps > most:
        raise ValueError(f"steps must be at most {most}, an epoch's, not {steps}.")
    now = datetime.datetime.now(datetime.UTC)
    output = output or RESULTS / f"bench-peers-{now:%Y%m%dT%H%M%S}.json"
    if output.suffix != ".json":
        raise ValueError(f"output must be a NAME.json, not {str(output)!r}.")
    if output.exists():
        raise FileExistsError(f"{output} is there already: name another --output.")
    output.parent.mkdir(parents=True, exist_ok=True)
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
    if importlib.util.find_spec("matplotlib"):
        plot_peers(record.content["rows"], output.with_suffix(".png"), title=setting)
    else:
        print("matplotlib is missing: the picture is left out (pip install matplotlib).")
    return output


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    nets = ["strided", "lab6", "intro", "dropout"]
    parser.add_argument("--nets", nargs="+", choices=NOTEBOOKS, help=f"({' '.join(nets)})")
    parser.add_argument("--steps", type=int, help="warm steps on the clock (300)")
    parser.add_argument("--rounds", type=int, help="of the warm steps (3)")
    parser.add_argument("--no-jobs", action="store_true", help="the warm steps alone")
    parser.add_argument("--quick", action="store_true", help="at most 5 minutes: see above")
    parser.add_argument("--output", type=Path, help="the JSON file to write")
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
