"""Data-parallel training over the devices of one process or of many: JAX's own runtime.

The batch is divided among the devices of a mesh, the state is on each of them, and the train step
is the one of every other driver: `data_parallel` says where its arguments lie, and XLA divides it.
A step sees the whole batch, so that shuffles, dropout masks and sums are those of one device.

    mesh = data_mesh()
    train_step = data_parallel(make_train_step(model, tx), mesh)
    state, data = replicate(state, mesh), replicate(data.train.batch(), mesh)
    state, history = fit(state, data, train_step=train_step, ...)

Every process runs the same program. What only one may do, the first (`is_first`) does.
"""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from jaxconv._checks import check_positive

T = TypeVar("T")

HEARTBEAT_SECONDS = 15
"""After how long without a heartbeat JAX takes a process for dead, and ends the others."""
SHUTDOWN_SECONDS = 10
"""How long a process that ends waits for the others: one that failed ends them by not waiting."""
CONNECT_SECONDS = 120
"""How long processes that have started wait for those that have not."""
_TASKS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_COLLECTIVE = re.compile(
    "(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED): .*"
    "(gloo|nccl|coordination service|connection|socket)",
    re.IGNORECASE | re.DOTALL,
)
"""What JAX raises where another process is gone, by the code that it begins with."""


class AgreedError(ValueError):
    """What all processes refuse together."""


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat_timeout_seconds: int = HEARTBEAT_SECONDS,
) -> None:
    """Makes this process one of several, if it is; to be called before JAX is used.

    What is not given is taken from `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and
    `JAX_PROCESS_ID`, and else found as JAX finds it: from SLURM, Open MPI, Kubernetes, or a TPU
    pod. Where there is nothing to be found, or one process, nothing happens.

    A process that dies or stalls ends all others with an error within about
    `heartbeat_timeout_seconds`: without that they would wait for it in the next step for ever.
    Those that end wait some seconds for the others: before one works on alone, all `shutdown`. JAX's
    preemption service is turned off, since SIGTERM is heard by `interrupts`.

    Args:
      coordinator_address: `host:port` of the first process, where it will listen.
      num_processes: how many there are; 1 for a process that works alone wherever it runs.
      process_id: which one this is, from 0.
      heartbeat_timeout_seconds: the most seconds between two signs of life.

    Raises:
      ValueError: if the numbers make no sense, some are missing and cannot be found, or JAX was
        used before.
      ConnectionError: if not all processes are there after two minutes, or JAX's detection fails.

    Example:
      >>> initialize(num_processes=1)
      >>> jax.process_count()
      1

    Source: https://docs.jax.dev/en/latest/multi_process.html
    """
    address, *numbers = map(os.environ.get, _VARIABLES)
    address = coordinator_address or address
    num_processes, process_id = (
        _number(name, text) if value is None else value
        for name, text, value in zip(
            _VARIABLES[1:], numbers, (num_processes, process_id), strict=True
        )
    )
    if num_processes is not None:
        check_positive("num_processes", num_processes)
    if process_id is not None and not 0 <= process_id < (num_processes or process_id + 1):
        raise ValueError(
            f"process_id counts from 0 to num_processes - 1 ({num_processes} processes): it cannot "
            f"be {process_id}."
        )
    tasks = next((int(os.environ[name]) for name in _TASKS if name in os.environ), None)
    if (num_processes or tasks) == 1 or jax.distributed.is_initialized():
        return
    given = (address, num_processes, process_id)
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            *given,
            cluster_detection_method=None if None in given else "deactivate",
            initialization_timeout=CONNECT_SECONDS,
            heartbeat_timeout_seconds=heartbeat_timeout_seconds,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except ValueError as error:
        if given == (None, None, None) and "should be defined" in str(error):
            return  # no cluster
        raise ValueError(
            f"Of several processes each needs the coordinator's address, their number and its own, "
            f"not {given} ({error}): give all three, or num_processes=1 for one that works alone."
        ) from error
    except RuntimeError as error:
        if "before" not in str(error):
            raise ConnectionError(
                f"This process could not join {num_processes or 'the'} processes at "
                f"{address or 'the address that was found'} ({str(error).splitlines()[0]}): start "
                f"all of them within {CONNECT_SECONDS} s, or one that works alone with "
                "num_processes=1 (--processes 1)."
            ) from error
        if given != (None, None, None) or (tasks or 1) > 1:
            raise ValueError(
                "JAX was used before the processes were told of each other: call "
                "jaxconv.parallel.initialize first of all, with num_processes=1 if this one is "
                "to work alone."
            ) from error


def _number(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} must be an integer, not {text!r}.") from None


def is_first() -> bool:
    """Whether this process is the one that prints and writes for all.

    At a program's end the others wait some seconds for it, no longer: `shutdown` before.

    Example:
      >>> is_first()
      True
    """
    return jax.process_index() == 0


def broadcast_from_first(value: Any) -> Any:
    """What the first process has, in all of them: anything that JSON can hold.

    Example:
      >>> broadcast_from_first({"folder": "runs/lab6-0-1"})
      {'folder': 'runs/lab6-0-1'}
    """
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    length = int(_multihost().broadcast_one_to_all(np.int32(len(text))))
    padded = np.zeros(1 << length.bit_length(), np.uint8)  # a program for each power of two
    if is_first():
        padded[:length] = text
    return json.loads(bytes(np.asarray(_multihost().broadcast_one_to_all(padded))[:length]))


def on_first(function: Callable[[], T]) -> T | None:
    """What a function gives that the first process alone calls; None in the others.

    Raises:
      ValueError: in the others, if it raised one there, or another error that a user can mend.

    Example:
      >>> on_first(lambda: 3)
      3
    """
    result, error = None, None
    if is_first():
        try:
            result = function()
        except (OSError, ValueError, ModuleNotFoundError) as caught:
            error = caught
    told = broadcast_from_first(None if error is None else str(error))
    if error is not None:
        raise error
    if told is not None:
        raise AgreedError(f"Process 0 of {jax.process_count()} cannot go on: {told}")
    return result


def all_max(number: int) -> int:
    """The largest of the numbers that the processes have.

    Example:
      >>> all_max(3)
      3
    """
    if jax.process_count() == 1:
        return number
    return int(np.max(_multihost().process_allgather(np.int32(number))))


def check_agreement(settings: Mapping[str, Any]) -> None:
    """Refuses processes that were started with other settings than the first one.

    Raises:
      ValueError: in every process.

    Example:
      >>> check_agreement({"epochs": 5})
    """
    own = {name: json.dumps(value) for name, value in settings.items()}  # as text NaN is NaN
    first = broadcast_from_first(own)
    differing = [name for name in own if own[name] != first.get(name)]
    if all_max(len(differing)):
        what = ", ".join(f"{name}: {own[name]} here, {first.get(name)}" for name in differing)
        raise AgreedError(
            f"Process {jax.process_index()} of {jax.process_count()}: all processes need the "
            f"settings and data of the first one{f' ({what} there)' if what else ''}."
        )


@contextlib.contextmanager
def name_lost_peer() -> Iterator[None]:
    """Says of a connection that breaks in the midst of a program what it means.

    Raises:
      ConnectionError: in the place of what the collectives raise.
    """
    try:
        yield
    except AgreedError:
        raise
    except (RuntimeError, ValueError) as error:
        if jax.process_count() == 1 or not _COLLECTIVE.match(str(error)):
            raise
        raise ConnectionError(
            f"Process {jax.process_index()} of {jax.process_count()} has lost another one "
            f"({str(error).splitlines()[0]}). JAX itself says which one does not answer. A run "
            "goes on from its last checkpoint with --resume, and with any number of processes."
        ) from error


def shutdown() -> None:
    """Ends the processes' work together: waits for all, after which one's end is nobody else's."""
    all_max(0)  # however long it takes; the shutdown itself waits for seconds
    jax.distributed.shutdown()


def _multihost() -> Any:
    from jax.experimental import multihost_utils

    return multihost_utils
