"""The processes and devices of a run as one value; it hides every collective call."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.sharding import Mesh
from jaxtyping import PyTree

from jaxconv.parallel import collectives
from jaxconv.parallel.batches import data_parallel
from jaxconv.parallel.mesh import data_mesh, default_devices, replicate, unreplicate
from jaxconv.parallel.processes import initialize, is_first

T = TypeVar("T")


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

    def agree(self, values: dict[str, Any]) -> None:
        """Refuses processes whose values differ from the first one's."""
        if self.count > 1:
            collectives.check_agreement(values)

    def share(self, value: Any) -> Any:
        """Gives all processes the first one's value, which JSON can hold."""
        return collectives.broadcast_from_first(value)

    def on_first(self, function: Callable[[], T]) -> T | None:
        """Calls a function in the first process alone; its errors end all."""
        return collectives.on_first(function)

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
        return collectives.all_max(int(pending or 0))

    def leave(self) -> None:
        """Disconnects all processes, so that each may end alone."""
        collectives.shutdown()
