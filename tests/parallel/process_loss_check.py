"""Two processes train, one is killed or stopped: how long until the other has ended by itself.

python tests/parallel/process_loss_check.py

It goes through SIGKILL and SIGSTOP of each of the two, and prints the seconds.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support import SMALL_RUN

CASES = [(number, rank) for number in (signal.SIGKILL, signal.SIGSTOP) for rank in (1, 0)]


def own_environment(**more: str) -> dict[str, str]:
    return {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", **more}


def launched(
    layout: str, net: str, folder: Path, *options: str, script: Path = SMALL_RUN
) -> subprocess.Popen[str]:
    """An experiment on PROCESSESxDEVICES, by default on a few hundred digits."""
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


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pid_of(rank: int, folder: Path) -> int:
    """The process of this rank among those that train into a folder."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command, own = (path / "cmdline").read_bytes(), (path / "environ").read_bytes()
        except OSError:
            continue
        is_rank = f"\0JAX_PROCESS_ID={rank}\0".encode() in b"\0" + own
        if is_rank and str(folder).encode() in command:
            return int(path.name)
    raise AssertionError(f"process {rank} is not there")


def lose(number: int, rank: int, folder: Path, *options: str) -> tuple[float, str]:
    """Sends a signal to one of two: the seconds until the other has ended, and all that was said.

    The launcher kills what is left 30 seconds after the first has ended.
    """
    process = launched("2x1", "dense", folder, "--save-every", "20", *options)
    wait_for(folder / "checkpoints" / "40", process)
    lost, other = pid_of(rank, folder), pid_of(1 - rank, folder)
    began = time.monotonic()
    os.kill(lost, number)
    while Path(f"/proc/{other}/environ").exists() and process.poll() is None:
        try:
            if not Path(f"/proc/{other}/environ").read_bytes():  # ended, and not yet waited for
                break
        except OSError:
            break
        time.sleep(0.05)
    seconds = time.monotonic() - began
    said, _ = process.communicate(timeout=120)
    assert process.returncode > 128, said
    return seconds, said


if __name__ == "__main__":
    for number, rank in CASES:
        with tempfile.TemporaryDirectory() as parent:
            seconds, _ = lose(number, rank, Path(parent, "run"), "--epochs", "100000")
        name = signal.Signals(number).name
        print(f"{name} of process {rank}: the other ended after {seconds:.1f} s", flush=True)
