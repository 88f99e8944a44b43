"""Data-parallel training over a mesh of devices, those of one process or of many.

A mesh divides each batch among its devices; each device holds the whole state. The train step is
the one of every other driver: `data_parallel` says where its arguments lie, and XLA divides it. A
step sees the whole batch, so shuffles, dropout masks and sums are those of one device.

    mesh = data_mesh()
    train_step = data_parallel(make_train_step(model, tx), mesh)
    state, data = replicate(state, mesh), replicate(data.train.batch(), mesh)
    state, history = fit(state, data, train_step=train_step, ...)
"""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from jaxconv._checks import check_positive

Batch = Mapping[str, Any]
Step = TypeVar("Step", bound=Callable[..., Any])


_CPU_DEVICES, _FORCED = "jax_num_cpu_devices", "xla_force_host_platform_device_count"


_AXIS = "batch"


def data_mesh(devices: int | None = None) -> Mesh:
    """The devices to divide batches among, those of each process side by side.

    Args:
      devices: how many of each process; all of them when None. On a CPU that many are made, if JAX
        was not used before.

    Raises:
      ValueError: if a process has fewer.

    Example:
      >>> data_mesh(1).size
      1
    """
    if devices is not None:
        check_positive("devices", devices)
        if devices > 1 and _FORCED not in os.environ.get("XLA_FLAGS", ""):
            try:
                if getattr(jax.config, _CPU_DEVICES) < devices:
                    jax.config.update(_CPU_DEVICES, devices)
            except RuntimeError:  # JAX was used: what it has is counted below
                pass
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
    return Mesh(np.array(chosen).reshape(-1), (_AXIS,), axis_types=(AxisType.Auto,))


def default_devices() -> int | None:
    """How many devices of each process a run uses if it is not told: of several processes all.

    Started by itself it is one, so that a figure does not depend on what else is in the machine;
    one of several, or under `jaxconv.parallel.launch`, it is all that it has (None).

    Example:
      >>> default_devices()
      1
    """
    told = jax.process_count() > 1 or "JAX_NUM_PROCESSES" in os.environ
    return None if told else 1


def data_parallel(step: Step, mesh: Mesh) -> Step:
    """The same pure step for a batch that is divided among devices; `jit` it, or pass it to `fit`.

    For one device alone it is the step itself.

    A batch that does not divide evenly is padded at its end with its last sample, and masked, so
    that every sample counts once. Random numbers are those of the batch alone, as long as JAX's
    `jax_threefry_partitionable` is on, its default: a longer draw begins with the shorter one.

    Args:
      step: `(state, batch) -> ...`, a train step or an eval step.
      mesh: as `data_mesh` makes it. State and batch are to be on its devices: `replicate` them.

    Raises:
      ValueError: while tracing a train step, for a batch that does not divide and a model with
        BatchNorm, whose statistics padding would enter.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> batch = {"image": jnp.ones((5, 28, 28, 1)), "label": jnp.arange(5)}
      >>> step = data_parallel(jaxconv.make_train_step(model, tx), data_mesh(1))
      >>> state, sums = jax.jit(step)(state, batch)
      >>> int(sums["count"])
      5
    """
    if mesh.size == 1:
        return step

    @functools.wraps(step)
    def divided(state: PyTree, batch: Batch) -> Any:
        samples = len(jnp.asarray(batch["label"]))
        padding = -samples % mesh.size
        if padding:
            mask = jnp.pad(batch.get("mask", jnp.ones(samples, bool)), (0, padding))
            batch = {name: _pad(jnp, x, padding) for name, x in batch.items()} | {"mask": mask}
        return step(state, lax.with_sharding_constraint(dict(batch), _divided(mesh)))

    return divided  # pyright: ignore[reportReturnType]


def _pad(np_or_jnp: Any, x: Any, rows: int) -> Any:
    """Repeats the last sample: what is computed of it is finite where it is of the batch."""
    return np_or_jnp.pad(x, [(0, rows)] + [(0, 0)] * (x.ndim - 1), mode="edge")


def _divided(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(_AXIS))


def _everywhere(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: PyTree, mesh: Mesh, *, same: bool = False) -> PyTree:
    """Arrays, keys among them, on all devices of a mesh; one device alone leaves them as they are.

    Args:
      tree: arrays that each process holds, or arrays of this mesh, which stay there.
      mesh: as `data_mesh` makes it.
      same: whether all processes are sure to hold the same. Otherwise it is the first one's that
        all get.

    Example:
      >>> replicate({"x": np.arange(3)}, data_mesh(1))
      {'x': array([0, 1, 2])}
    """
    if mesh.size == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    here = [i for i, x in enumerate(leaves) if getattr(x, "is_fully_addressable", True)]
    raw = [np.asarray(_key_data(leaves[i])) for i in here]
    if not same and jax.process_count() > 1:
        from jax.experimental import multihost_utils

        raw = [np.asarray(x) for x in multihost_utils.broadcast_one_to_all(raw)]
    sharding = _everywhere(mesh)
    for i, x in zip(here, raw, strict=True):
        placed = jax.make_array_from_callback(x.shape, sharding, lambda index, x=x: x[index])
        if _is_key(leaves[i]):
            placed = _wrap(placed, str(jax.random.key_impl(leaves[i])))
        leaves[i] = placed
    return jax.tree.unflatten(structure, leaves)


def unreplicate(tree: PyTree[Array]) -> PyTree[Array]:
    """This process' own copy of replicated arrays, on its first device.

    What is computed from it is computed here alone, without the other processes.

    Raises:
      ValueError: for an array that is divided.

    Example:
      >>> unreplicate(replicate(jnp.arange(3), data_mesh(1))).tolist()
      [0, 1, 2]
    """

    def own(x: Any) -> Any:
        if not isinstance(x, jax.Array):
            return x
        if not x.is_fully_replicated:
            raise ValueError(f"An array of shape {x.shape} is divided: {x.sharding}.")
        return x.addressable_data(0)

    return jax.tree.map(own, tree)


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _key_data(x: Any) -> Any:
    return jax.random.key_data(x) if _is_key(x) else x


@functools.partial(jax.jit, static_argnames="impl")
def _wrap(data: Array, impl: str) -> Array:
    return jax.random.wrap_key_data(data, impl=impl)


def name_devices(mesh: Mesh) -> str:
    """A mesh in words.

    Example:
      >>> name_devices(data_mesh(1))
      '1 device'
    """
    many = "s" if mesh.size > 1 else ""
    processes = jax.process_count()
    return f"{mesh.size} device{many}" + (f" of {processes} processes" if processes > 1 else "")


def process_rows(samples: int, mesh: Mesh) -> range:
    """Which rows of a batch of so many samples this process holds.

    Example:
      >>> process_rows(5, data_mesh(1))
      range(0, 5)
    """
    padded = samples + -samples % mesh.size
    own = padded // jax.process_count()
    start = own * jax.process_index()
    return range(min(start, samples), min(start + own, samples))


def global_batch(rows: Batch, samples: int, mesh: Mesh) -> dict[str, Array]:
    """The batch of which each process holds its own rows, as `data_parallel` divides it.

    Args:
      rows: the fields of the samples `process_rows(samples, mesh)`; of a process that has none, those
        of any one sample, to pad with.
      samples: how many samples all processes have together.
      mesh: as `data_mesh` makes it.

    Example:
      >>> global_batch({"label": np.arange(5)}, 5, data_mesh(1))["label"].tolist()
      [0, 1, 2, 3, 4]
    """
    padding, fields = -samples % mesh.size, {name: np.asarray(x) for name, x in rows.items()}
    if padding:
        own, padded = len(process_rows(samples, mesh)), (samples + padding) // jax.process_count()
        mask = np.pad(fields.pop("mask", np.ones(own, bool))[:own], (0, padded - own))
        fields = {name: _pad(np, x, padded - len(x)) for name, x in fields.items()}
        fields["mask"] = mask
    return {
        name: jax.make_array_from_process_local_data(
            _divided(mesh), x, (samples + padding, *x.shape[1:])
        )
        for name, x in fields.items()
    }
