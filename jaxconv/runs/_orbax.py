"""A state as Orbax writes and reads it: each array is a plain file, as large as the array.

Reading executes nothing, and believes no size that a file only declares.
"""

import json
import logging
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.training.state import TrainState

STATE, UNFINISHED = "state", ".orbax-checkpoint-tmp"
MAX_BYTES = 2**26
"""The most bytes of a checkpoint beside its arrays."""


def open_manager(folder: Path, keep: int, before_rename: Callable[[], None]) -> Any:
    """Makes the manager of a folder; it calls `before_rename` when a save is all but whole."""
    import orbax.checkpoint as ocp

    folder.mkdir(parents=True, exist_ok=True)
    handler, alone = _handler()
    options = ocp.CheckpointManagerOptions(
        preservation_policy=ocp.checkpoint_managers.LatestN(keep),
        create=False,
        save_root_metadata=False,
        multiprocessing_options=alone,
        async_options=ocp.AsyncOptions(
            create_directories_asynchronously=False,  # else an error hangs for five minutes
            post_finalization_callback=before_rename,
        ),
    )
    return ocp.CheckpointManager(folder.absolute(), options=options, item_handlers={STATE: handler})


def save_state(manager: Any, step: int, state: TrainState) -> None:
    """Copies a state, because the training goes on in its memory, and begins to write it."""
    import orbax.checkpoint as ocp

    # On the host: of several processes one writes, and Orbax refuses its arrays on devices.
    host = jax.device_get(jax.tree.map(_stored, state))
    arrays = jax.tree.map(np.array, host)
    if hasattr(os, "posix_fallocate"):  # on a full disk, Orbax' pending writes print tracebacks
        with tempfile.TemporaryFile(dir=manager.directory) as file:
            os.posix_fallocate(file.fileno(), 0, sum(x.nbytes for x in jax.tree.leaves(arrays)))
    item = ocp.args.PyTreeSave(arrays)
    manager.save(step, args=ocp.args.Composite(**{STATE: item}), force=True)


def read_state(path: Path, template: TrainState) -> TrainState:
    """Reads a state of the template's shape, to its devices.

    Raises:
      ValueError: if the folder does not hold exactly the template's arrays.
    """
    import orbax.checkpoint as ocp

    wanted = jax.eval_shape(lambda state: jax.tree.map(_stored, state), template)
    try:
        _check_arrays(path, wanted)
        handler, alone = _handler()
        empty = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), wanted)
        how = ocp.checkpoint_utils.construct_restore_args(empty)
        with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
            arguments = ocp.args.PyTreeRestore(empty, restore_args=how)
            found = checkpointer.restore(path.absolute(), args=arguments)
    except Exception as error:  # Orbax and TensorStore raise nearly anything
        raise ValueError(f"{path} cannot be read: {error}") from error
    return jax.tree.map(_place, template, found)


def _stored(x: jax.Array) -> jax.Array | None:
    """An array as Orbax has it: a key as its data, nothing for an empty array."""
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return (jax.random.key_data(x) if is_key else x) if x.size else None


def _place(like: jax.Array, found: np.ndarray | None) -> jax.Array:
    if found is None:
        return like
    array = jnp.asarray(found)
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(like))
    return jax.device_put(array, like.sharding) if getattr(like, "committed", False) else array


def _check_arrays(path: Path, like: Any) -> None:
    """Refuses other arrays, and sizes that a file only declares, before Orbax reads any array."""
    leaves = jax.tree_util.tree_flatten_with_path(like)[0]
    wanted = {jax.tree_util.keystr(key, simple=True, separator="."): x for key, x in leaves}
    files = {x.relative_to(path): x.stat().st_size for x in path.rglob("*") if x.is_file()}
    room = MAX_BYTES + sum(x.size * x.dtype.itemsize for x in wanted.values())
    if (size := sum(files.values())) > room:
        raise ValueError(f"it has {size} bytes, more than the {room} of such a state.")
    headers = {x.parent: json.loads((path / x).read_text()) for x in files if x.name == ".zarray"}
    headers = {folder.as_posix(): x for folder, x in headers.items()}
    found = {name: f"{tuple(x['shape'])} {np.dtype(x['dtype'])}" for name, x in headers.items()}
    expected = {name: f"{x.shape} {np.dtype(x.dtype)}" for name, x in wanted.items()}
    for name in sorted(found.keys() | expected.keys()):
        has, wants = (x.get(name, "missing") for x in (found, expected))
        if has != wants:
            raise ValueError(f"{name} is {has}, but the state's is {wants}.")
        array = headers[name]
        parts = [file for file in files if file.parent == Path(name) and file.name != ".zarray"]
        part = math.prod(array["chunks"]) * wanted[name].dtype.itemsize
        packed = array["compressor"] is not None or array["filters"] is not None
        if packed or {files[file] for file in parts} != {part}:
            raise ValueError(f"{name} is not written as plain numbers.")
    for file in files:
        if file.suffix in (".ocdbt", ".json"):  # Orbax' other formats
            raise ValueError(f"it has {file}, which no save writes.")


def _handler() -> tuple[Any, Any]:
    """A handler of plain files, for the first process: it writes alone, as each has it all."""
    import orbax.checkpoint as ocp

    here, logger = jax.process_index(), logging.getLogger("absl")
    if _not_of_orbax not in logger.filters:
        logger.addFilter(_not_of_orbax)
    alone = ocp.options.MultiprocessingOptions(primary_host=here, active_processes={here})
    handler = ocp.PyTreeCheckpointHandler(
        use_ocdbt=False, use_compression=False, multiprocessing_options=alone
    )
    return handler, alone


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname  # it raises what matters, and we print it
