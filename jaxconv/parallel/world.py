"""The processes and devices of a run as one value; it hides every collective call.

Every process runs the same program, on JAX's own runtime. Only the first one prints and writes.
"""

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from jaxconv.parallel.batches import data_parallel
from jaxconv.parallel.mesh import data_mesh, default_devices, replicate, unreplicate
from jaxconv.parallel.processes import all_max, initialize, is_first, shutdown

T = TypeVar("T")
_LOST_PEER = re.compile(
    "(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED): .*"
    "(gloo|nccl|coordination service|connection|socket)",
    re.IGNORECASE | re.DOTALL,
)
"""The errors that JAX raises if another process is gone; each begins with its status code."""


class AgreedError(ValueError):
    """An error that all processes raise together."""


@dataclasses.dataclass(frozen=True)
class World:
    """Where a run takes place: alone on a device, or joined with others.

    All processes make the calls of its methods in the same order.

    Example:
      >>> world = World.join(processes=1)
      >>> world.first, world.share({"step": 3})
      (True, {'step': 3})
    """

    mesh: Mesh
    """The devices that divide each batch."""

    @classmethod
    def join(
        cls,
        *,
        devices: int | None = None,
        processes: int | None = None,
        process_id: int | None = None,
        coordinator: str | None = None,
    ) -> "World":
        """Joins this process to the others; call it before JAX is used.

        Args:
          devices: how many devices of each process divide a batch; by default those of
            `default_devices`.
          processes: as `num_processes` of `initialize`.
          process_id: as in `initialize`.
          coordinator: as `coordinator_address` of `initialize`.

        Raises:
          ValueError, ConnectionError: as `initialize` and `data_mesh`.
        """
        initialize(coordinator, processes, process_id)
        return cls(data_mesh(devices or default_devices()))

    @property
    def first(self) -> bool:
        """Whether this process prints and writes for all."""
        return is_first()

    @property
    def count(self) -> int:
        """The number of processes."""
        return jax.process_count()

    def share(self, value: Any) -> Any:
        """Gives all processes the first one's value, which JSON can hold."""
        if self.count == 1:
            return value
        from jax.experimental.multihost_utils import broadcast_one_to_all

        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        length = int(broadcast_one_to_all(np.int32(len(text))))
        padded = np.zeros(1 << length.bit_length(), np.uint8)  # a program for each power of two
        if self.first:
            padded[:length] = text
        return json.loads(bytes(np.asarray(broadcast_one_to_all(padded))[:length]))

    def agree(self, values: dict[str, Any]) -> None:
        """Raises `AgreedError` in all processes if the values of one differ from the first's."""
        own = {name: json.dumps(value) for name, value in values.items()}  # as text NaN is NaN
        first = self.share(own)
        differing = [name for name in own if own[name] != first.get(name)]
        if all_max(len(differing)):
            given = ", ".join(f"{name}: {own[name]} here, {first.get(name)}" for name in differing)
            raise AgreedError(
                f"Process {jax.process_index()} of {self.count}: all processes need the settings "
                f"and data of the first one{f' ({given} there)' if given else ''}."
            )

    def on_first(self, function: Callable[[], T]) -> T | None:
        """Calls a function in the first process alone; returns its result there, None elsewhere.

        Raises:
          AgreedError: in the others, if the function raised OSError, ValueError or
            ModuleNotFoundError in the first process, which raises that error itself.
        """
        result, error = None, None
        if self.first:
            try:
                result = function()
            except (OSError, ValueError, ModuleNotFoundError) as caught:
                error = caught
        reason = self.share(None if error is None else str(error))
        if error is not None:
            raise error
        if reason is not None:
            raise AgreedError(f"Process 0 of {self.count} cannot go on: {reason}")
        return result

    def place(self, tree: PyTree, *, same: bool = False) -> PyTree:
        """Copies arrays to all devices, as `replicate`."""
        return replicate(tree, self.mesh, same=same)

    def own(self, tree: PyTree) -> PyTree:
        """This process' copy of what `place` placed."""
        return unreplicate(tree)

    def divide(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """The step for batches that the devices divide, as `data_parallel`."""
        return data_parallel(step, self.mesh)

    def signal(self, pending: int | None) -> int:
        """The signal that any of the processes has received, or 0."""
        return all_max(int(pending or 0))

    def leave(self) -> None:
        """Disconnects all processes, so that each may end alone."""
        shutdown()


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
