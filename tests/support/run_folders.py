"""The files of a run's folder, and its rows without the times, which differ from run to run."""

import importlib
import json
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

REPORT_FILES = ("curves.png", "diagnostics.npz", "model.safetensors", "report.html")
"""The files that a run writes after its training, but for `result.json`."""


def run(net, folder, **settings):
    """Runs an experiment for three epochs in a folder, or in the next one of `runs/`."""
    module = importlib.import_module(f"experiments.{net}")
    settings = {"epochs": 3, "batch_size": 64, "quiet": True, **settings}
    if folder is not None:
        settings["output_dir"] = str(folder)
    return module.main(module.CONFIG.replace(**settings))


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_seconds(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a history without their times."""
    return [{name: x for name, x in row.items() if name != "seconds"} for row in rows]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Waits until a process that trains has written a file."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
