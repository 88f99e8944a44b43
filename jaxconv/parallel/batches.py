"""Data-parallel training: a mesh divides each batch among the devices of one process or of many.

Each device holds the whole state. `data_parallel` states where the step's arguments lie, and XLA
divides the work of the step that all drivers use. A step sees the whole batch, so shuffles, dropout
masks and sums are those of one device.

    mesh = data_mesh()
    net = net._replace(train_step=data_parallel(net.train_step, mesh))
    state, data = replicate(state, mesh), replicate(data.train.batch(), mesh)
    state, history = fit(net, state, data, ...)
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree, Shaped

from jaxconv.parallel.mesh import AXIS

Step = TypeVar("Step", bound=Callable[..., Any])


def data_parallel(step: Step, mesh: Mesh) -> Step:
    """The same pure step for a batch that a mesh divides; `jit` it, or pass it to `fit`.

    For a mesh of one device it returns the step itself.

    If the number of devices does not divide the batch, its last sample is repeated at the end and
    masked, so that every sample counts once. Random numbers are those of the batch alone if JAX's
    `jax_threefry_partitionable` is on, its default: a longer draw begins with the shorter one.

    Args:
      step: `(state, batch) -> ...`, a train step or an eval step.
      mesh: from `data_mesh`. State and batch must be on its devices: `replicate` them.

    Raises:
      ValueError: while tracing a train step, for a batch that does not divide and a model with
        BatchNorm, because padding would enter its statistics.

    Example:
      >>> import jaxconv
      >>> mesh = jaxconv.parallel.data_mesh(1)
      >>> net = jaxconv.classifier(jaxconv.create_model("dense"), jaxconv.rmsprop())
      >>> state = net.init(jax.random.key(0), (28, 28, 1))
      >>> batch = {"image": jnp.ones((5, 28, 28, 1)), "label": jnp.arange(5)}
      >>> step = data_parallel(net.train_step, mesh)
      >>> state, sums = jax.jit(step)(state, batch)
      >>> int(sums["count"])
      5
    """
    if mesh.size == 1:
        return step

    @functools.wraps(step)
    def parallel_step(state: PyTree, batch: Mapping[str, Any]) -> Any:
        samples = len(jnp.asarray(batch["label"]))
        padding = -samples % mesh.size
        if padding:
            batch = _pad_batch(jnp, batch, samples, samples + padding)
        return step(state, lax.with_sharding_constraint(dict(batch), _divided(mesh)))

    return parallel_step  # pyright: ignore[reportReturnType]


def process_rows(samples: int, mesh: Mesh) -> range:
    """The rows of a batch of this many samples that this process holds.

    Example:
      >>> import jaxconv
      >>> process_rows(5, jaxconv.parallel.data_mesh(1))
      range(0, 5)
    """
    padded = samples + -samples % mesh.size
    own = padded // jax.process_count()
    start = own * jax.process_index()
    return range(min(start, samples), min(start + own, samples))


def global_batch(
    rows: Mapping[str, Array | np.ndarray], samples: int, mesh: Mesh
) -> dict[str, Shaped[Array, "padded ..."]]:
    """The batch that the processes hold together, divided as `data_parallel` divides it.

    Args:
      rows: the fields of this process' samples, `process_rows(samples, mesh)`. A process without
        samples gives any one sample, to pad with.
      samples: how many samples all processes have together.
      mesh: from `data_mesh`.

    Returns:
      The fields, padded to a multiple of the mesh's size; with a mask if any sample pads them.

    Example:
      >>> import jaxconv
      >>> mesh = jaxconv.parallel.data_mesh(1)
      >>> global_batch({"label": np.arange(5)}, 5, mesh)["label"].tolist()
      [0, 1, 2, 3, 4]
    """
    size = samples + -samples % mesh.size
    fields = {name: np.asarray(x) for name, x in rows.items()}
    if size > samples:
        own = len(process_rows(samples, mesh))
        fields = _pad_batch(np, fields, own, size // jax.process_count())
    return {
        name: jax.make_array_from_process_local_data(_divided(mesh), x, (size, *x.shape[1:]))
        for name, x in fields.items()
    }


def _pad_batch(xp: Any, batch: Mapping[str, Any], samples: int, size: int) -> dict[str, Any]:
    """Fills a batch with its last sample up to a size; the mask counts only the first samples.

    Values computed from a repeated sample are finite if those of the batch are.
    """
    mask = batch.get("mask", xp.ones(samples, bool))[:samples]
    padded = {
        name: xp.pad(x, [(0, size - len(x))] + [(0, 0)] * (x.ndim - 1), mode="edge")
        for name, x in batch.items()
    }
    return padded | {"mask": xp.pad(mask, (0, size - samples))}


def _divided(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(AXIS))
