"""Runs a benchmark's script in a fresh process, or in several, and reads what it prints."""

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


def run_script(
    script: str, arguments: Sequence[str], environment: Mapping[str, str], timeout: float = TIMEOUT
) -> dict[str, Any]:
    """Runs a script of this folder, on the code of this checkout.

    Args:
      script: its path, relative to this folder.
      arguments: its command line.
      environment: variables to set beside those of this process.
      timeout: seconds after which the process is killed.

    Returns:
      The JSON object in the last line that it prints, or `{"error": why there is none}`.
    """
    own = {"PYTHONPATH": python_path(), "JAX_TRACEBACK_FILTERING": "off"}
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
    """Runs a script in several processes at once, under `jaxconv.parallel.launch`.

    Args:
      processes: how many.
      devices: the devices of each.
      script: its path, relative to this folder.
      arguments: its command line.
      environment: variables to set beside those of this process.
      timeout: seconds after which the processes are ended.

    Returns:
      The exit code, and the output of all processes.

    Raises:
      subprocess.TimeoutExpired: if they are not done in time.
    """
    command = [sys.executable, "-m", "jaxconv.parallel.launch", "--processes", str(processes)]
    command += ["--devices-per-process", str(devices), str(HERE / script), *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": python_path(), **environment},
    ) as launcher:
        try:
            output, _ = launcher.communicate(timeout=timeout)
        finally:  # also after Ctrl-C; killed, the launcher would leave its processes behind
            with contextlib.suppress(OSError):
                launcher.terminate()
    return launcher.returncode, output


def python_path() -> str:
    """A PYTHONPATH that begins with this checkout: its package counts, not an installed one."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def reason(stderr: str) -> str:
    """The line of a traceback that names the error; without one, the last line."""
    lines = stderr.strip().splitlines()
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit|Interrupt)\b", line)]
    return (named or lines or [""])[-1]


def variables() -> dict[str, str]:
    """The environment variables that may change a measurement, without the names of folders."""
    return {name: os.environ[name] for name in sorted(os.environ) if MATTERS.fullmatch(name)}


def new_output(output: Path | None, benchmark: str, stamp: str) -> Path:
    """The JSON file to write: a new one, in a folder that exists.

    Args:
      output: the file, if it is not to be a new one in experiments/results/.
      benchmark: begins the name of that new file.
      stamp: ends it, such as the time.

    Raises:
      ValueError: if it is no JSON file.
      FileExistsError: if it is there.
    """
    output = output or RESULTS / f"{benchmark}-{stamp}.json"
    if output.suffix != ".json":
        raise ValueError(f"output must be a NAME.json, not {str(output)!r}.")
    if output.exists():
        raise FileExistsError(f"{output} is there already: name another --output.")
    output.parent.mkdir(parents=True, exist_ok=True)
    return output
