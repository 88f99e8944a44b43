"""Calls that all processes of a program make together, in the same order: they agree on values.

Every process runs the same program, on JAX's own runtime. Only the first one prints and writes.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from jaxconv.parallel.processes import is_first

T = TypeVar("T")

_LOST_PEER = re.compile(
    "(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED): .*"
    "(gloo|nccl|coordination service|connection|socket)",
    re.IGNORECASE | re.DOTALL,
)
"""The errors that JAX raises if another process is gone; each begins with its status code."""


class AgreedError(ValueError):
    """An error that all processes raise together."""


def broadcast_from_first(value: Any) -> Any:
    """Gives all processes the first one's value, which may be anything that JSON can hold.

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
    """Calls a function in the first process alone; returns its result there, None elsewhere.

    Raises:
      AgreedError: in the others, if the function raised OSError, ValueError or
        ModuleNotFoundError in the first process, which raises that error itself.

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
    reason = broadcast_from_first(None if error is None else str(error))
    if error is not None:
        raise error
    if reason is not None:
        raise AgreedError(f"Process 0 of {jax.process_count()} cannot go on: {reason}")
    return result


def all_max(number: int) -> int:
    """The largest of the processes' numbers.

    Example:
      >>> all_max(3)
      3
    """
    if jax.process_count() == 1:
        return number
    return int(np.max(_multihost().process_allgather(np.int32(number))))


def check_agreement(settings: Mapping[str, Any]) -> None:
    """Refuses processes that started with other settings than the first one.

    Raises:
      AgreedError: in every process.

    Example:
      >>> check_agreement({"epochs": 5})
    """
    own = {name: json.dumps(value) for name, value in settings.items()}  # as text NaN is NaN
    first = broadcast_from_first(own)
    differing = [name for name in own if own[name] != first.get(name)]
    if all_max(len(differing)):
        given = ", ".join(f"{name}: {own[name]} here, {first.get(name)}" for name in differing)
        raise AgreedError(
            f"Process {jax.process_index()} of {jax.process_count()}: all processes need the "
            f"settings and data of the first one{f' ({given} there)' if given else ''}."
        )


@contextlib.contextmanager
def name_lost_peer() -> Iterator[None]:
    """Explains the error of a collective whose connection to another process broke.

    Raises:
      ConnectionError: in place of that error.
    """
    try:
        yield
    except AgreedError:
        raise
    except (RuntimeError, ValueError) as error:
        if jax.process_count() == 1 or not _LOST_PEER.match(str(error)):
            raise
        raise ConnectionError(
            f"Process {jax.process_index()} of {jax.process_count()} has lost another one "
            f"({str(error).splitlines()[0]}). JAX itself names the one that does not answer. "
            "Resume the run from its last checkpoint with --resume, with any number of processes."
        ) from error


def shutdown() -> None:
    """Waits for all processes and disconnects them; each may then continue or end alone."""
    all_max(0)  # waits as long as it takes; JAX's shutdown waits only some seconds
    jax.distributed.shutdown()


def _multihost() -> Any:
    from jax.experimental import multihost_utils

    return multihost_utils
