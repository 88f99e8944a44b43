"""The mesh of devices that a training runs on, and arrays that each of its devices holds."""

import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from jaxconv._checks import check_positive

AXIS = "batch"
"""The only axis of a mesh."""
_CPU_DEVICES = "jax_num_cpu_devices"
_FORCED_CPU_DEVICES = "xla_force_host_platform_device_count"


def data_mesh(devices: int | None = None) -> Mesh:
    """The devices to divide batches among, those of each process side by side.

    Args:
      devices: how many devices of each process; all of them when None. A CPU pretends to have that
        many, if JAX was not used before.

    Raises:
      ValueError: if a process has fewer, the processes have different numbers of devices, or JAX
        has none (as `check_backend`).

    Example:
      >>> data_mesh(1).size
      1
    """
    if devices is not None:
        check_positive("devices", devices)
        if devices > 1 and _FORCED_CPU_DEVICES not in os.environ.get("XLA_FLAGS", ""):
            try:
                if getattr(jax.config, _CPU_DEVICES) < devices:
                    jax.config.update(_CPU_DEVICES, devices)
            except RuntimeError:  # JAX was used before: the count below decides
                pass
    check_backend()
    chosen, processes = [], range(jax.process_count())
    counts = [sum(x.process_index == process for x in jax.devices()) for process in processes]
    if len(set(counts)) > 1:
        raise ValueError(
            f"Each process needs as many devices as the others, not {counts}: choose them by "
            "JAX_LOCAL_DEVICE_IDS."
        )
    for process in processes:
        own = [device for device in jax.devices() if device.process_index == process]
        if devices is not None and len(own) < devices:
            raise ValueError(
                f"devices must be at most {len(own)}, all that process {process} has "
                f"({own[0].platform}), not {devices}. On a CPU set JAX_NUM_CPU_DEVICES={devices} "
                "before JAX starts."
            )
        chosen.append(sorted(own, key=lambda device: device.id)[:devices])
    return Mesh(np.array(chosen).reshape(-1), (AXIS,), axis_types=(AxisType.Auto,))


def check_backend() -> None:
    """Starts JAX's devices, if they have not started yet.

    Raises:
      ValueError: if there are none; JAX's own error is a long one, or an assertion.

    Example:
      >>> check_backend()
    """
    count, platforms = getattr(jax.config, _CPU_DEVICES), getattr(jax.config, "jax_platforms", None)
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        if count < 1 and count != -1:  # JAX's default
            raise ValueError(f"JAX_NUM_CPU_DEVICES must be positive, not {count}.") from error
        reason = str(error).partition("\n")[0].partition(" (set JAX_PLATFORMS")[0]
        asked = f" for JAX_PLATFORMS={platforms!r}" if platforms else ""
        raise ValueError(
            f"JAX has no device here{asked} ({reason or 'the platform is not installed'}): "
            f"{'unset it, or set' if platforms else 'set'} JAX_PLATFORMS=cpu; an NVIDIA GPU needs "
            'pip install -U "jax[cuda13]", a TPU pip install -U "jax[tpu]".'
        ) from error


def default_devices() -> int | None:
    """How many devices of each process a run uses, if its settings give no number.

    A run that starts alone uses one, so that its figures do not depend on the machine's other
    devices. One of several processes, or one that `jaxconv.parallel.launch` starts, uses all that
    it has (None).

    Example:
      >>> default_devices()
      1
    """
    check_backend()
    launched = jax.process_count() > 1 or os.environ.get("JAX_NUM_PROCESSES")
    return None if launched else 1


def name_devices(mesh: Mesh) -> str:
    """A mesh in words.

    Example:
      >>> name_devices(data_mesh(1))
      '1 device'
    """
    plural = "s" if mesh.size > 1 else ""
    processes = jax.process_count()
    return f"{mesh.size} device{plural}" + (f" of {processes} processes" if processes > 1 else "")


def replicate(tree: PyTree, mesh: Mesh, *, same: bool = False) -> PyTree:
    """Copies arrays, typed keys included, to all devices of a mesh.

    A mesh of one device leaves the tree as it is.

    Args:
      tree: arrays that each process holds, or arrays of this mesh, which stay there.
      mesh: from `data_mesh`.
      same: whether all processes are sure to hold the same arrays; if not, all receive those of
        the first process.

    Example:
      >>> replicate({"x": np.arange(3)}, data_mesh(1))
      {'x': array([0, 1, 2])}
    """
    if mesh.size == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    here = [i for i, x in enumerate(leaves) if getattr(x, "is_fully_addressable", True)]
    arrays = [np.asarray(_key_data(leaves[i])) for i in here]
    if not same and jax.process_count() > 1:
        from jax.experimental import multihost_utils

        arrays = [np.asarray(x) for x in multihost_utils.broadcast_one_to_all(arrays)]
    sharding = NamedSharding(mesh, PartitionSpec())
    for i, x in zip(here, arrays, strict=True):
        placed = jax.make_array_from_callback(x.shape, sharding, lambda index, x=x: x[index])
        if _is_key(leaves[i]):
            placed = _wrap_key(placed, str(jax.random.key_impl(leaves[i])))
        leaves[i] = placed
    return jax.tree.unflatten(structure, leaves)


def unreplicate(tree: PyTree[Array]) -> PyTree[Array]:
    """This process' own copy of replicated arrays, on its first device.

    The process can compute with the copy without the other processes.

    Raises:
      ValueError: for an array that is divided among devices.

    Example:
      >>> unreplicate(replicate(jnp.arange(3), data_mesh(1))).tolist()
      [0, 1, 2]
    """

    def own_copy(x: Any) -> Any:
        if not isinstance(x, jax.Array):
            return x
        if not x.is_fully_replicated:
            raise ValueError(f"An array of shape {x.shape} is divided: {x.sharding}.")
        return x.addressable_data(0)

    return jax.tree.map(own_copy, tree)


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _key_data(x: Any) -> Any:
    return jax.random.key_data(x) if _is_key(x) else x


@functools.partial(jax.jit, static_argnames="impl")
def _wrap_key(data: Array, impl: str) -> Array:
    return jax.random.wrap_key_data(data, impl=impl)
