"""Experiments as several processes, which `jaxconv.parallel.launch` starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support import SMALL_RUN


def own_environment(**more: str) -> dict[str, str]:
    """The environment of a process with one CPU device, or as `more` sets it."""
    return {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", **more}


def launched(
    layout: str, net: str, folder: Path, *options: str, script: Path = SMALL_RUN
) -> subprocess.Popen[str]:
    """Starts an experiment on PROCESSESxDEVICES, by default on a few hundred digits."""
    processes, devices = layout.split("x")
    command = [sys.executable, "-m", "jaxconv.parallel.launch", "--processes", processes]
    command += ["--devices-per-process", devices, str(script), *filter(None, [net]), *options]
    return subprocess.Popen(
        [*command, "--output-dir", str(folder)],
        env=own_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str], folder: Path) -> tuple[dict, str]:
    """The result of a run that ends well, and its output."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return json.loads((folder / "result.json").read_text()), output
