"""Starts several processes of one script on this host, as one training: for trial and test.

    python -m jaxconv.parallel.launch --processes 2 --devices-per-process 2 train.py

Each line of output begins with the number of its process. The launcher passes Ctrl-C, SIGTERM and
SIGHUP on to all processes. When one fails, JAX ends the others within some 15 seconds; the launcher
kills those that are left after 30. If the launcher itself is killed, all processes end with it. The
exit code is the worst of all (128 plus the number of a signal).
"""

import argparse
import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxconv._checks import check_positive

GUARD = "trap '' HUP INT TERM; read _; kill -KILL 0"
"""Kills its process group once nobody holds the other end of its stdin."""


def launch(
    command: Sequence[str], processes: int, devices: int | None = None, *, grace: float = 30.0
) -> int:
    """Runs a command as several processes that know each other; returns the worst exit code.

    Args:
      command: the program and its arguments.
      processes: how many to start.
      devices: how many devices each process gets: a CPU pretends to have that many, GPUs are
        divided among the processes. With None each gets what JAX finds.
      grace: how many seconds processes have to end after one has failed, or after a signal.

    Raises:
      OSError: if the command cannot be started.

    Example:
      >>> launch([sys.executable, "-c", "import os; print(os.environ['JAX_PROCESS_ID'])"], 1)
      [0] 0
      0
    """
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    received: list[int] = []
    with contextlib.ExitStack() as stack:  # at the end joins the copiers and the processes
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the last: a closed terminal
            if signal.getsignal(number) is not signal.SIG_IGN:
                before = signal.signal(number, lambda number, _: received.append(number))
                stack.callback(signal.signal, number, before)
        # The processes join the guard's group before their program starts, and only the launcher
        # holds the pipe to the guard. However the launcher ends, none of them outlives it.
        guard = subprocess.Popen(["sh", "-c", GUARD], stdin=subprocess.PIPE, process_group=0)
        stack.enter_context(guard)
        try:
            children = []
            for rank in range(processes):
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,  # it would stop if it read a terminal's
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=os.environ | process_environment(address, processes, rank, devices),
                    process_group=guard.pid,  # Ctrl-C reaches only the launcher's own group
                )
                children.append(stack.enter_context(child))
                for source, sink in ((child.stdout, sys.stdout), (child.stderr, sys.stderr)):
                    copier = threading.Thread(target=_copy, args=(source, sink, rank))
                    copier.start()
                    stack.callback(copier.join)
            return _wait(children, received, grace)
        finally:
            os.killpg(guard.pid, signal.SIGKILL)  # what is left


def process_environment(
    address: str, processes: int, rank: int, devices: int | None
) -> dict[str, str]:
    """The environment variables that name the other processes and one process' own devices.

    Example:
      >>> process_environment("localhost:1234", 2, 1, 2)["JAX_LOCAL_DEVICE_IDS"]
      '2,3'
    """
    own = {
        "JAX_COORDINATOR_ADDRESS": address,
        "JAX_COORDINATOR_BIND_ADDRESS": address,  # by default JAX listens to every network
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(rank),
        "PYTHONUNBUFFERED": "1",
    }
    if devices is not None:
        own["JAX_NUM_CPU_DEVICES"] = str(devices)
        ids = range(rank * devices, (rank + 1) * devices)
        own["JAX_LOCAL_DEVICE_IDS"] = ",".join(map(str, ids))  # which GPUs
    return own


def _copy(source: Any, sink: Any, rank: int) -> None:
    """Copies lines as they arrive, each after its process' number, and ends the last one."""
    with source:
        for line in source:
            text = line.decode(errors="replace").rstrip("\r\n")
            _print(f"[{rank}] {text}", sink)


def _print(line: str, sink: Any) -> None:
    """Prints a line, unless nobody reads any more: the processes continue."""
    with contextlib.suppress(OSError, ValueError):
        sink.write(f"{line}\n")  # at once: `print` would let another thread's line in between
        sink.flush()


def _wait(children: Sequence[subprocess.Popen[bytes]], received: list[int], grace: float) -> int:
    """Waits until all have ended or their grace has, and passes signals on; the worst exit code."""
    running, worst, deadline = dict(enumerate(children)), 0, math.inf
    while running:
        for rank, code in [(rank, child.poll()) for rank, child in running.items()]:
            if code is not None:
                del running[rank]
            if code:
                worst = max(worst, code if code > 0 else 128 - code)
                how = "ended with exit code" if code > 0 else "was ended by"
                what = code if code > 0 else signal.Signals(-code).name
                _print(f"Process {rank} {how} {what}", sys.stderr)
        if worst or received:
            deadline = min(deadline, time.monotonic() + grace)
        while received:
            number = received.pop(0)
            for child in running.values():
                child.send_signal(number)
        if time.monotonic() > deadline:
            for rank in running:
                _print(f"Process {rank} did not end within {grace:g} s: killed", sys.stderr)
            # A killed process has no exit code of its own, so this one counts only alone.
            return worst or 128 + signal.SIGKILL
        time.sleep(0.05)
    return worst


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line and launches the script; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxconv.parallel.launch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--processes", type=int, required=True, help="How many to start.")
    add("--devices-per-process", type=int, help="How many devices each gets (all it finds).")
    add("script", help="A Python script, such as train.py.")
    add("arguments", nargs=argparse.REMAINDER, help="The script's own arguments.")
    given = parser.parse_args(arguments)
    devices = given.devices_per_process
    try:
        check_positive("--processes", given.processes)
        check_positive("--devices-per-process", 1 if devices is None else devices)
    except ValueError as error:
        parser.error(str(error))
    if not Path(given.script).is_file():
        parser.error(f"there is no script {given.script!r}")
    return launch([sys.executable, given.script, *given.arguments], given.processes, devices)


if __name__ == "__main__":
    sys.exit(main())
