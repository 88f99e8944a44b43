"""What the benchmarks share: a script in a fresh process, and the JSON that it prints last.

For `python experiments/benchmarks/bench_step.py` and `python experiments/benchmarks/bench_peers.py`.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE.parent / "results"
TIMEOUT = 3600.0
MATTERS = re.compile(
    "(XLA|JAX|LIBTPU|OMP|MKL|TF_ENABLE|TF_NUM|TF_XLA|KERAS|TORCH|TORCHINDUCTOR|CUDA)_.*"
    "(?<!_DIR)(?<!_HOME)(?<!_PATH)"
)


def run_child(
    script: str, arguments: Sequence[str], environment: Mapping[str, str], timeout: float = TIMEOUT
) -> dict[str, Any]:
    """Runs a script of this folder, on the code beside it.

    Returns:
      The JSON object in its last line, or `{"error": why there is none}`.
    """
    # The package as it lies here, not as it may be installed.
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(path), "JAX_TRACEBACK_FILTERING": "off"}
    command = [sys.executable, str(HERE / script), *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, **own, **environment},
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {timeout:g} s"}
    if done.returncode < 0:
        return {"error": f"ended by {signal.Signals(-done.returncode).name}"}
    if done.returncode:
        return {"error": reason(done.stderr) or f"exit code {done.returncode}"}
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, TypeError, ValueError):
        return {"error": "it printed no result"}


def run_launched(
    processes: int,
    devices: int,
    script: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    timeout: float = TIMEOUT,
) -> tuple[int, str]:
    """Runs a script of this folder in several processes: the exit code, and what they said.

    Raises:
      subprocess.TimeoutExpired: if they are not done in time. They are told to end then.
    """
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "jaxconv.parallel.launch", "--processes", str(processes)]
    command += ["--devices-per-process", str(devices), str(HERE / script), *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment},
    ) as launcher:
        try:
            said, _ = launcher.communicate(timeout=timeout)
        finally:  # also after Ctrl-C; killed, it would leave its processes behind
            with contextlib.suppress(OSError):
                launcher.terminate()
    return launcher.returncode, said


def reason(stderr: str) -> str:
    """The line of a traceback that names the error; without one, the last line."""
    lines = stderr.strip().splitlines()
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit|Interrupt)\b", line)]
    return (named or lines or [""])[-1]


def variables() -> dict[str, str]:
    """The environment variables that may change a measurement, but for the names of folders."""
    return {name: os.environ[name] for name in sorted(os.environ) if MATTERS.fullmatch(name)}
