"""Starts several processes of one script on this host, as one training: for trial and test.

    python -m jaxconv.parallel.launch --processes 2 --devices-per-process 2 experiments/lab6.py

Each line of output begins with the number of its process. The launcher passes Ctrl-C and SIGTERM on
to all processes. When one fails, JAX ends the others within some 15 seconds; the launcher kills
those that are left after 30. The exit code is the worst of all (128 plus the number of a signal).
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

GRACE_SECONDS = 30.0
"""How long processes may take to end after one has failed, or after a signal asks all to end."""


def launch(
    command: Sequence[str],
    processes: int,
    devices: int | None = None,
    *,
    grace: float = GRACE_SECONDS,
) -> int:
    """Runs a command as several processes that know each other, and waits for their end.

    Args:
      command: the program and its arguments.
      processes: how many to start.
      devices: how many devices each process gets: a CPU pretends to have that many, GPUs are
        divided among the processes. With None each gets what JAX finds.
      grace: the most seconds that the others may take to end once one has failed.

    Returns:
      The worst exit code.

    Raises:
      OSError: if the command cannot be started.

    Example:
      >>> launch([sys.executable, "-c", "import os; print(os.environ['JAX_PROCESS_ID'])"], 1)
      [0] 0
      0
    """
    address = f"localhost:{_free_port()}"
    children: list[subprocess.Popen[bytes]] = []
    copiers: list[threading.Thread] = []
    with _forward_signals(children) as received:
        try:
            for rank in range(processes):
                if received:
                    break
                child = subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**os.environ, **process_environment(address, processes, rank, devices)},
                    start_new_session=True,  # else Ctrl-C would reach it twice and end it at once
                )
                children.append(child)
                for source, sink in ((child.stdout, sys.stdout), (child.stderr, sys.stderr)):
                    copiers.append(threading.Thread(target=_copy, args=(source, sink, rank)))
                    copiers[-1].start()
            return _wait(children, received, grace)
        finally:
            for child in children:  # and the processes that it started and left
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            for thread in copiers:
                thread.join()


@contextlib.contextmanager
def _forward_signals(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[signal.Signals]]:
    """Passes signals on to the children that run; yields the list of signals received."""
    received: list[signal.Signals] = []

    def forward(number: int, _: Any) -> None:
        received.append(signal.Signals(number))
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last: the terminal has closed
    handlers = {number: signal.getsignal(number) for number in numbers}
    handlers = {number: x for number, x in handlers.items() if x is not signal.SIG_IGN}
    try:
        for number in handlers:
            signal.signal(number, forward)
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def _copy(source: Any, sink: Any, rank: int) -> None:
    """Copies lines as they arrive, each after its process' number, and ends the last one."""
    with source:
        for line in source:
            text = line.decode(errors="replace").rstrip("\r\n")
            with contextlib.suppress(OSError, ValueError):  # nobody reads: the processes continue
                sink.write(f"[{rank}] {text}\n")
                sink.flush()


def _wait(
    children: Sequence[subprocess.Popen[bytes]], received: Sequence[signal.Signals], grace: float
) -> int:
    """Waits until all processes have ended or were killed; returns the worst exit code."""
    deadline, codes = None, {}
    while len(codes) < len(children):
        for rank, child in enumerate(children):
            if rank not in codes and child.poll() is not None:
                codes[rank] = _exit_code(child.returncode)
                if codes[rank]:
                    print(f"Process {rank} {_ending(child.returncode)}", file=sys.stderr)
        if deadline is None and (received or any(codes.values())):
            deadline = time.monotonic() + grace
        if deadline is not None and time.monotonic() > deadline:
            left = [rank for rank in range(len(children)) if rank not in codes]
            for rank in left:
                children[rank].kill()
                print(f"Process {rank} did not end within {grace:g} s: killed", file=sys.stderr)
            # A killed process has no exit code of its own, so this one counts only alone.
            return max(codes.values(), default=0) or 128 + signal.SIGKILL
        time.sleep(0.05)
    return max(codes.values(), default=128 + signal.SIGINT)  # the signal came before a start


def _exit_code(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode


def _ending(returncode: int) -> str:
    """How a process ended, in words.

    Example:
      >>> _ending(-9), _ending(2)
      ('was ended by SIGKILL', 'ended with exit code 2')
    """
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    return f"was ended by {signal.Signals(-returncode).name}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line and launches the script; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxconv.parallel.launch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--processes", type=int, required=True, help="how many to start")
    parser.add_argument(
        "--devices-per-process",
        type=int,
        help="how many devices each one gets (default: all that it finds)",
    )
    parser.add_argument("script", help="a Python script, such as experiments/lab6.py")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own arguments")
    given = parser.parse_args(arguments)
    for option, number in (
        ("--processes", given.processes),
        ("--devices-per-process", given.devices_per_process),
    ):
        if number is not None and number < 1:
            parser.error(f"{option} must be a positive integer, not {number}")
    if not Path(given.script).is_file():
        parser.error(f"there is no script {given.script!r}")
    command = [sys.executable, given.script, *given.arguments]
    return launch(command, given.processes, given.devices_per_process)


if __name__ == "__main__":
    sys.exit(main())
