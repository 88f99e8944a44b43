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
import functools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from jaxconv.checks import check_positive
from jaxconv.data import Batch
from jaxconv.train import TrainState

Step = TypeVar("Step", bound=Callable[..., Any])
T = TypeVar("T")

HEARTBEAT_SECONDS = 15
"""After how long without a heartbeat JAX takes a process for dead, and ends the others."""
SHUTDOWN_SECONDS = 10
"""How long a process that ends waits for the others: one that failed ends them by not waiting."""
CONNECT_SECONDS = 120
"""How long processes that have started wait for those that have not."""
_TASKS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_CPU_DEVICES, _FORCED = "jax_num_cpu_devices", "xla_force_host_platform_device_count"
_AXIS = "batch"
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
    Those that end wait some seconds for the others: before one works on alone, all `leave`. JAX's
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
                "jaxconv.distributed.initialize first of all, with num_processes=1 if this one is "
                "to work alone."
            ) from error


def _number(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} must be an integer, not {text!r}.") from None


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


def usual_devices() -> int | None:
    """How many devices of each process a run uses if it is not told: of several processes all.

    Started by itself it is one, so that a figure does not depend on what else is in the machine;
    one of several, or under `jaxconv.launch`, it is all that it has (None).

    Example:
      >>> usual_devices()
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
    def divided(state: TrainState, batch: Batch) -> Any:
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
        raw = [np.asarray(x) for x in _multihost().broadcast_one_to_all(raw)]
    sharding = _everywhere(mesh)
    for i, x in zip(here, raw, strict=True):
        placed = jax.make_array_from_callback(x.shape, sharding, lambda index, x=x: x[index])
        if _is_key(leaves[i]):
            placed = _wrap(placed, str(jax.random.key_impl(leaves[i])))
        leaves[i] = placed
    return jax.tree.unflatten(structure, leaves)


def local(tree: PyTree[Array]) -> PyTree[Array]:
    """This process' own copy of replicated arrays, on its first device.

    What is computed from it is computed here alone, without the other processes.

    Raises:
      ValueError: for an array that is divided.

    Example:
      >>> local(replicate(jnp.arange(3), data_mesh(1))).tolist()
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


def local_rows(samples: int, mesh: Mesh) -> range:
    """Which rows of a batch of so many samples this process holds.

    Example:
      >>> local_rows(5, data_mesh(1))
      range(0, 5)
    """
    padded = samples + -samples % mesh.size
    own = padded // jax.process_count()
    start = own * jax.process_index()
    return range(min(start, samples), min(start + own, samples))


def assemble(rows: Batch, samples: int, mesh: Mesh) -> dict[str, Array]:
    """The batch of which each process holds its own rows, as `data_parallel` divides it.

    Args:
      rows: the fields of the samples `local_rows(samples, mesh)`; of a process that has none, those
        of any one sample, to pad with.
      samples: how many samples all processes have together.
      mesh: as `data_mesh` makes it.

    Example:
      >>> assemble({"label": np.arange(5)}, 5, data_mesh(1))["label"].tolist()
      [0, 1, 2, 3, 4]
    """
    padding, fields = -samples % mesh.size, {name: np.asarray(x) for name, x in rows.items()}
    if padding:
        own, padded = len(local_rows(samples, mesh)), (samples + padding) // jax.process_count()
        mask = np.pad(fields.pop("mask", np.ones(own, bool))[:own], (0, padded - own))
        fields = {name: _pad(np, x, padded - len(x)) for name, x in fields.items()}
        fields["mask"] = mask
    return {
        name: jax.make_array_from_process_local_data(
            _divided(mesh), x, (samples + padding, *x.shape[1:])
        )
        for name, x in fields.items()
    }


def is_first() -> bool:
    """Whether this process is the one that prints and writes for all.

    At a program's end the others wait some seconds for it, no longer: `leave` before.

    Example:
      >>> is_first()
      True
    """
    return jax.process_index() == 0


def from_first(value: Any) -> Any:
    """What the first process has, in all of them: anything that JSON can hold.

    Example:
      >>> from_first({"folder": "runs/lab6-0-1"})
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


def first_does(function: Callable[[], T]) -> T | None:
    """What a function gives that the first process alone calls; None in the others.

    Raises:
      ValueError: in the others, if it raised one there, or another error that a user can mend.

    Example:
      >>> first_does(lambda: 3)
      3
    """
    result, error = None, None
    if is_first():
        try:
            result = function()
        except (OSError, ValueError, ModuleNotFoundError) as caught:
            error = caught
    told = from_first(None if error is None else str(error))
    if error is not None:
        raise error
    if told is not None:
        raise AgreedError(f"Process 0 of {jax.process_count()} cannot go on: {told}")
    return result


def largest(number: int) -> int:
    """The largest of the numbers that the processes have.

    Example:
      >>> largest(3)
      3
    """
    if jax.process_count() == 1:
        return number
    return int(np.max(_multihost().process_allgather(np.int32(number))))


def check_same(settings: Mapping[str, Any]) -> None:
    """Refuses processes that were started with other settings than the first one.

    Raises:
      ValueError: in every process.

    Example:
      >>> check_same({"epochs": 5})
    """
    own = {name: json.dumps(value) for name, value in settings.items()}  # as text NaN is NaN
    first = from_first(own)
    differing = [name for name in own if own[name] != first.get(name)]
    if largest(len(differing)):
        what = ", ".join(f"{name}: {own[name]} here, {first.get(name)}" for name in differing)
        raise AgreedError(
            f"Process {jax.process_index()} of {jax.process_count()}: all processes need the "
            f"settings and data of the first one{f' ({what} there)' if what else ''}."
        )


@contextlib.contextmanager
def losses_told() -> Iterator[None]:
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


def leave() -> None:
    """Ends the processes' work together: waits for all, after which one's end is nobody else's."""
    largest(0)  # however long it takes; the shutdown itself waits for seconds
    jax.distributed.shutdown()


def _multihost() -> Any:
    from jax.experimental import multihost_utils

    return multihost_utils
