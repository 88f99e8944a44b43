"""Kills or stops one of two processes that train, and times until the other has ended by itself.

    python tests/parallel/process_loss_check.py

It sends SIGKILL and SIGSTOP to each of the two, and prints the seconds.
"""

import os
import signal
import tempfile
import time
from pathlib import Path

from tests.support.launched_runs import launched
from tests.support.run_folders import wait_for

CASES = [(number, rank) for number in (signal.SIGKILL, signal.SIGSTOP) for rank in (1, 0)]


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
    """Sends a signal to one of two; returns the seconds until the other has ended, and the output.

    The launcher kills those that are left 30 seconds after the first has ended.
    """
    process = launched("2x1", "dense", folder, "--save-every", "20", *options)
    wait_for(folder / "checkpoints" / "40.safetensors", process)
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
    output, _ = process.communicate(timeout=120)
    assert process.returncode > 128, output
    return seconds, output


if __name__ == "__main__":
    for number, rank in CASES:
        with tempfile.TemporaryDirectory() as parent:
            seconds, _ = lose(number, rank, Path(parent, "run"), "--epochs", "100000")
        name = signal.Signals(number).name
        print(f"{name} of process {rank}: the other ended after {seconds:.1f} s", flush=True)
