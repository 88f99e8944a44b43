"""One process of several: how it finds and joins the others, and whether it is the first."""

import os
import re

import jax
import numpy as np

from jaxconv._checks import check_positive

HEARTBEAT_SECONDS = 15
"""If a process sends no heartbeat for so long, JAX takes it for dead and ends the others."""
SHUTDOWN_SECONDS = 10
"""How long a process that ends waits for the others; if one failed, this ends the others."""
CONNECT_SECONDS = 120
"""How long a process that has started waits for those that have not."""
_ADDRESS, _COUNT, _ID = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
_CLUSTERS = {
    "SLURM_STEP_NODELIST": ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_JOB_ID"),
    "OMPI_MCA_orte_hnp_uri": (
        "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
    ),
}  # fmt: skip
"""Where the first process is, and the integers that JAX reads with it: first how many there are."""


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    heartbeat_timeout_seconds: int = HEARTBEAT_SECONDS,
) -> None:
    """Joins this process to the others, if there are any; call it before JAX is used.

    Arguments that are None come from `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and
    `JAX_PROCESS_ID`, or as JAX detects them: from SLURM, Open MPI, Kubernetes, or a TPU pod. An
    empty variable counts as none. If nothing is found, or one process, nothing happens.

    A process that dies or stalls ends all others with an error within about
    `heartbeat_timeout_seconds`; otherwise they would wait for it in the next step for ever. At exit
    a process waits up to 10 s for the others. If one continues alone, call `shutdown()` on all of
    them first. JAX's preemption service is turned off, since a run handles SIGTERM itself.

    Args:
      coordinator_address: `host:port` of the first process, where it will listen.
      num_processes: how many processes there are; 1 for one that works alone wherever it runs.
      process_id: the number of this process, from 0.
      heartbeat_timeout_seconds: the most seconds between two signs of life.

    Raises:
      ValueError: if the numbers or the address make no sense, some are missing and cannot be found,
        or JAX was used before.
      ConnectionError: if not all processes are there after two minutes, or JAX's detection fails.

    Example:
      >>> initialize(num_processes=1)
      >>> jax.process_count()
      1

    Source: https://docs.jax.dev/en/latest/multi_process.html
    """
    num_processes = _read_integer(_COUNT) if num_processes is None else num_processes
    if num_processes is not None:
        check_positive("num_processes", num_processes)
    if process_id is None and num_processes != 1:
        process_id = _read_integer(_ID)
    if process_id is not None and not 0 <= process_id < (num_processes or process_id + 1):
        raise ValueError(
            f"process_id counts from 0 to num_processes - 1 ({num_processes} processes): it cannot "
            f"be {process_id}."
        )
    if num_processes == 1 or jax.distributed.is_initialized():
        return
    address = _read(_ADDRESS) if coordinator_address is None else coordinator_address
    if address is not None and not re.fullmatch(r".+:[0-9]+", address):
        raise ValueError(f"The coordinator's address is HOST:PORT, not {address!r}.")
    tasks = _read_cluster() if None in (address, num_processes, process_id) else None
    if (num_processes or tasks) != 1:
        _join(address, num_processes, process_id, tasks, heartbeat_timeout_seconds)


def _read(name: str) -> str | None:
    """A variable of the environment; None if it is not set, or empty."""
    return os.environ.get(name, "").strip() or None


def _read_integer(name: str) -> int | None:
    text = _read(name)
    try:
        return None if text is None else int(text)
    except ValueError:
        raise ValueError(
            f"{name} must be an integer, not {text!r}: correct or unset it, or work alone with "
            "num_processes=1 (--processes 1)."
        ) from None


def _read_cluster() -> int | None:
    """How many processes SLURM or Open MPI has started; None without them."""
    _read_integer("JAX_COORDINATOR_PORT")
    for place, names in _CLUSTERS.items():
        tasks, *_ = map(_read_integer, names)
        empty = [name for name in (place, *names) if name in os.environ and not _read(name)]
        if tasks != 1 and place in os.environ and empty:
            raise ValueError(
                f"{empty[0]} is empty, so this process cannot find the others: start it with srun "
                "or mpirun, unset the variable, or work alone with num_processes=1 (--processes 1)."
            )
        if tasks is not None:
            return tasks
    return None


def _join(
    address: str | None,
    num_processes: int | None,
    process_id: int | None,
    tasks: int | None,
    heartbeat_timeout_seconds: int,
) -> None:
    """Calls `jax.distributed.initialize`, and raises its errors with their remedies."""
    given = (address, num_processes, process_id)
    if not re.fullmatch("[0-9]+(,[0-9]+)*", ids := _read("JAX_LOCAL_DEVICE_IDS") or "0"):
        raise ValueError(f"JAX_LOCAL_DEVICE_IDS must be integers such as 0,1, not {ids!r}.")
    if address is None:
        os.environ.pop(_ADDRESS, None)  # JAX would use an empty one
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
        if given == (None, None, None) and "be defined" in str(error):
            return  # no cluster
        raise ValueError(
            "Each of several processes needs the coordinator's address, the number of processes "
            f"and its own number, not {given} ({error}): give all three, or num_processes=1 for "
            "one that works alone."
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
                "JAX was used before this process joined the others: call "
                "jaxconv.parallel.initialize first, with num_processes=1 if this process works "
                "alone."
            ) from error


def is_first() -> bool:
    """Whether this process is the one that prints and writes for all.

    At a program's end the others wait only some seconds for it: call `shutdown` first.

    Example:
      >>> is_first()
      True
    """
    return jax.process_index() == 0


def all_max(number: int) -> int:
    """The largest of the processes' numbers; all processes call it together.

    Example:
      >>> all_max(3)
      3
    """
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def shutdown() -> None:
    """Waits for all processes and disconnects them; each may then continue or end alone."""
    all_max(0)  # waits as long as it takes; JAX's shutdown waits only some seconds
    jax.distributed.shutdown()
