"""Runs parts in processes of their own, with a time limit, and with variables that differ."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.benchmarks.subprocess_runner import python_path


class Part(NamedTuple):
    """One process."""

    file: str
    """The file of this folder whose `measure` it calls."""
    options: Mapping[str, Any]
    """The arguments of `measure`."""
    output: Path
    """The JSON file that it writes, whose name is the part's name."""
    variables: Mapping[str, str]
    """Environment variables to set beside those of this process."""


def run_parts(parts: Sequence[Part], seconds: float) -> dict[str, str]:
    """Runs parts side by side, prints what they print, and kills those that are late.

    A part writes its file as it goes on, so that a killed one loses only what it had not measured.

    Returns:
      The error of each part that failed, by its name.
    """
    until, errors = time.perf_counter() + seconds, {}
    processes = [_start(part) for part in parts]
    try:
        for part, process in zip(parts, processes, strict=True):
            try:
                code = process.wait(max(0.1, until - time.perf_counter()))
                if code:
                    errors[part.output.stem] = f"exit code {code}; its rows may have an error"
            except subprocess.TimeoutExpired:
                errors[part.output.stem] = f"not done after {seconds:.0f} s"
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return errors


def _start(part: Part) -> subprocess.Popen[bytes]:
    package = "experiments.benchmarks.accelerator"
    arguments = [part.file, json.dumps(part.options), str(part.output)]
    return subprocess.Popen(
        [sys.executable, "-m", package, *arguments],
        env={**os.environ, "PYTHONPATH": python_path(), **part.variables},
    )


def xla_flags(flag: str) -> dict[str, str]:
    """The variable that adds a flag to those that the user has set."""
    return {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()}


def cache_variables(folder: str | os.PathLike[str]) -> dict[str, str]:
    """The variables that keep every compiled program in a folder."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
