"""Kills runs with SIGKILL at random moments, saves included, and resumes each until it ends.

    python tests/runs/kill_runs.py --kills 50

Each must end in the bits of an undisturbed run: parameters, optimizer state, history and
the metrics of `result.json`.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jaxconv.runs.files import read_arrays
from jaxconv.runs.tensors import read_tensors
from tests.support import SMALL_RUN
from tests.support.run_folders import read_rows, without_seconds

OPTIONS = ["--epochs", "60", "--batch-size", "32", "--save-every", "10", "--quiet"]
METRICS = tuple(
    f"{kind}_{name}" for kind in ("train", "val", "test") for name in ("loss", "accuracy")
)


def outcome(folder: Path) -> dict[str, Any]:
    """The bits of a run that no interruption may change."""
    newest = max((folder / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.stem))
    result = json.loads((folder / "result.json").read_text())
    arrays = {name: x.tobytes() for name, x in read_tensors(newest).items()}
    model = read_tensors(folder / "model.safetensors")
    diagnostics = {name: x.tolist() for name, x in read_arrays(folder / "diagnostics.npz").items()}
    return {
        "arrays": arrays,
        "model": {name: x.tobytes() for name, x in model.items()},
        "diagnostics": diagnostics,
        "history": without_seconds(read_rows(folder)),
        "metrics": [result[name] for name in (*METRICS, "steps")],
    }


def start(net: str, folder: Path, *more: str, **how: Any) -> subprocess.Popen[str]:
    command = [sys.executable, str(SMALL_RUN), net, *OPTIONS, "--output-dir", str(folder), *more]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **how}
    # SIGINT may be ignored here, as in background jobs; children would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, **how)
    finally:
        signal.signal(signal.SIGINT, before)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    text, _ = process.communicate(timeout=300)
    assert process.returncode == code, text
    return text


def kill_at_random(process: subprocess.Popen[str], folder: Path, chance: random.Random) -> str:
    """Kills a run while it trains: after some of its own saves and a little, or within one."""
    saves = folder / "checkpoints"
    before, own = set(saves.glob("*.safetensors")), set()
    within, number = chance.random() < 0.5, chance.randrange(0, 20)
    while len(own) <= number and process.poll() is None:
        own |= set(saves.glob("*.safetensors")) - before
    leftovers = set() if own else set(saves.glob("*.tmp"))
    while within and not set(saves.glob("*.tmp")) - leftovers and process.poll() is None:
        pass  # a save is about to begin
    time.sleep(chance.uniform(0, 0.001 if within else 0.03))  # a save takes some milliseconds
    while not within and set(saves.glob("*.tmp")) - leftovers and process.poll() is None:
        pass  # the save is about to end
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if process.returncode == 0:
        return "after its end"
    return "in a save" if set(saves.glob("*.tmp")) - leftovers else "between saves"


def main(net: str, kills: int, seed: int, parent: Path) -> dict[str, int]:
    """Counts the kills by their moment; an AssertionError names a difference."""
    chance, done = random.Random(seed), {}
    whole = parent / "whole"
    finish(start(net, whole))
    expected = outcome(whole)
    trial = 0
    while sum(done.values()) < kills or len(done) < 2:  # until some fell into a save
        trial += 1
        folder, more = parent / str(trial), []
        while not more or (sum(done.values()) < kills and chance.random() < 0.5):
            where = kill_at_random(start(net, folder, *more), folder, chance)
            more = ["--resume"]
            if where != "after its end":
                done[where] = done.get(where, 0) + 1
        text = finish(start(net, folder, *more))
        assert "damaged" not in text, text
        found = outcome(folder)
        for name in expected:
            assert found[name] == expected[name], f"trial {trial} differs in {name}: {text}"
        assert not list((folder / "checkpoints").glob("*-tmp")), "a leftover was not cleaned"
        print(f"Run {trial} equal to the bit; killed so far: {done}", flush=True)
    return done


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--net", default="dropout")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    given = parser.parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    with tempfile.TemporaryDirectory() as parent:
        print(main(given.net, given.kills, given.seed, Path(parent)))
