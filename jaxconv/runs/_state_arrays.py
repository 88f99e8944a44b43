"""A `TrainState` as arrays with names, for a file of `tensors`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.runs.tensors import read_tensors
from jaxconv.training import TrainState


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_arrays(state: TrainState) -> dict[str, jax.Array]:
    """The arrays of a state by their paths; of a key its data."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    named = {_name(path): x for path, x in leaves}
    if len(named) < len(leaves):
        raise ValueError("two arrays of the state have one name: rename a layer.")
    is_key = {x: jnp.issubdtype(named[x].dtype, jax.dtypes.prng_key) for x in named}
    return {name: jax.random.key_data(x) if is_key[name] else x for name, x in named.items()}


def read_state(
    path: Path, shapes: Mapping[str, jax.ShapeDtypeStruct], template: TrainState
) -> TrainState:
    """Reads a state of the template's shape, to its devices.

    Raises:
      ValueError: if the file has other arrays than the template, before any is read.
    """
    wanted = jax.eval_shape(named_arrays, template)
    for name in sorted(shapes.keys() | wanted.keys()):
        has, wants = (
            f"{tree[name].shape} {tree[name].dtype}" if name in tree else "missing"
            for tree in (shapes, wanted)
        )
        if has != wants:
            raise ValueError(f"{path}: {name} is {has}, but the state's is {wants}.")
    arrays = read_tensors(path)
    return jax.tree_util.tree_map_with_path(
        lambda path, like: _place(like, arrays[_name(path)]), template
    )


def _place(like: jax.Array, found: np.ndarray) -> jax.Array:
    array = jnp.asarray(found)
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(like))
    return jax.device_put(array, like.sharding) if getattr(like, "committed", False) else array
