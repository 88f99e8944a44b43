"""Reads and writes the weights of Keras 3 with h5py alone: `.weights.h5` and `.keras` files.

Keras names a layer's group in such a file by the layer's class and its number among the layers of
that class: `layers/conv2d`, `layers/conv2d_1`, `layers/dense`. In a chain, therefore, the nth
`Conv` of a Linen model is the nth `Conv2D` of the Keras model, the nth `Dense` its nth `Dense` and
the nth `BatchNorm` its nth `BatchNormalization`, whatever their names. (If layers branch, Keras
counts by depth instead, and layers of equal shape would be exchanged.) Both sides keep kernels in
HWIO and flatten alike: nothing is transposed.

A file of weights does not record strides, padding, activations, `data_format`, or the epsilon of
BatchNorm: the model decides them. A `.keras` file does record its net: it is refused if the layers
do not stand in one row, from one input to one output, or have their channels first.
"""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, PyTree, Shaped

from jaxconv._checks import check_params
from jaxconv.export._files import check_path, write_whole
from jaxconv.export._keras_files import (
    Layer,
    import_h5py,
    is_bfloat16,
    open_weights,
    stored_layers,
)
from jaxconv.export._keras_layers import collection, mismatches, model_layers


def load_weights(
    path: str | os.PathLike[str], model: nn.Module, input_shape: Sequence[int]
) -> PyTree[Array]:
    """Reads the weights of a Keras 3 model without BatchNorm as parameters of a model.

    Args and errors as in `load_variables`, which also reads the running statistics of BatchNorm.

    Returns:
      Parameters in the model's own structure and dtypes, for `create_train_state(..., params=...)`.

    Raises:
      ValueError: also if the model has BatchNorm.

    Example:
      >>> import tempfile
      >>> import jax
      >>> import jaxconv
      >>> model, shape = jaxconv.create_model("strided"), (28, 28, 1)
      >>> state = jaxconv.create_train_state(model, jaxconv.adam(), jax.random.key(0), shape)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_weights(folder + "/strided.weights.h5", state.params, model, shape)
      ...     params = load_weights(folder + "/strided.weights.h5", model, shape)
      >>> bool((params["conv1"]["kernel"] == state.params["conv1"]["kernel"]).all())
      True

    Source: https://keras.io/api/models/model_saving_apis/
    """
    variables = load_variables(path, model, input_shape)
    if variables["batch_stats"]:
        raise ValueError(
            f"{type(model).__name__} has BatchNorm, whose running statistics are no parameters: "
            "read both with load_variables."
        )
    return variables["params"]


def load_variables(
    path: str | os.PathLike[str], model: nn.Module, input_shape: Sequence[int]
) -> dict[str, PyTree[Array]]:
    """Reads the weights of a Keras 3 model, functional or sequential, as variables of a model.

    Executes nothing in the file and does not need Keras.

    Args:
      path: a file of `keras.Model.save_weights`, `.weights.h5`, or of `keras.Model.save`, `.keras`.
        An optimizer's state in it is ignored.
      model: a Linen chain whose layers with parameters are `Conv` and `Dense`, jaxconv's or Flax',
        and Flax' `BatchNorm`.
      input_shape: the shape of one image, `(height, width, channels)`.

    Returns:
      `params` and `batch_stats` (`{}` without BatchNorm) in the model's own structure and dtypes,
      for `create_train_state(..., **variables)`.

    Raises:
      FileNotFoundError: if there is no such file.
      ModuleNotFoundError: without h5py.
      ValueError: if the file cannot be read, or its layers are not the model's; the message lists
        each layer that differs, with the arrays that the file has and those it should have.

    Example:
      >>> import tempfile
      >>> import jax
      >>> import jaxconv
      >>> model, shape = jaxconv.create_model("lab6", batch_norm=True), (28, 28, 1)
      >>> state = jaxconv.create_train_state(model, jaxconv.adam(), jax.random.key(0), shape)
      >>> own = {"params": state.params, "batch_stats": state.batch_stats}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_weights(folder + "/lab6.weights.h5", model=model, input_shape=shape, **own)
      ...     variables = load_variables(folder + "/lab6.weights.h5", model, shape)
      >>> variables["batch_stats"]["norm1"]["var"].shape
      (32,)

    Source: https://keras.io/api/models/model_saving_apis/
    """
    path = Path(path)
    expected = model_layers(model, input_shape)
    with open_weights(path) as file:
        found = stored_layers(file, path)
        if problems := mismatches(expected, found):
            text = (
                f"{path} does not fit {type(model).__name__} for images of {tuple(input_shape)}; "
                "nothing was loaded:"
            )
            raise ValueError("\n  ".join([text, *problems]))
        variables: dict[str, dict[Any, Array]] = {"params": {}, "batch_stats": {}}
        for group, layer in expected.items():
            for key, wanted in layer.arrays.items():
                dataset = found[group].arrays[key]
                array = dataset[()].view(jnp.bfloat16 if is_bfloat16(dataset) else dataset.dtype)
                variables[collection(key)][*layer.path, key] = jnp.asarray(array, wanted.dtype)
    return {name: unflatten_dict(arrays) for name, arrays in variables.items()}


def save_weights(
    path: str | os.PathLike[str],
    params: PyTree[Shaped[Array | np.ndarray, "..."]],
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    batch_stats: PyTree[Shaped[Array | np.ndarray, "..."]] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes parameters to a `.weights.h5` file that the same net in Keras 3 loads.

    The file appears whole or not at all.

    Args:
      path: the file to write, `NAME.weights.h5`.
      params: the model's parameters.
      model: as in `load_variables`.
      input_shape: the shape of one image, `(height, width, channels)`.
      batch_stats: the running statistics of a model with BatchNorm.
      overwrite: whether to replace a file that exists already.

    Raises:
      FileExistsError: if the file exists and `overwrite` is False.
      ModuleNotFoundError: without h5py.
      OSError: if the file cannot be written.
      ValueError: if the name does not end in `.weights.h5`, the model has other layers with
        parameters, or the parameters are not the model's.

    Example:
      >>> import jaxconv
      >>> model, shape = jaxconv.create_model("dense"), (28, 28, 1)
      >>> save_weights("dense.h5", {}, model, shape)
      Traceback (most recent call last):
      ValueError: Keras reads weights from NAME.weights.h5, not from 'dense.h5': ...

    Source: https://keras.io/api/models/model_saving_apis/weights_saving_and_loading/
    """
    path = Path(path)
    layers = check_save(path, model, input_shape, overwrite=overwrite)
    given = {"params": params, "batch_stats": batch_stats or {}}
    for name, arrays in given.items():
        own = {(*x.path, key): x.arrays[key] for x in layers.values() for key in x.arrays}
        own = {place: x for place, x in own.items() if collection(place[-1]) == name}
        check_params(arrays, unflatten_dict(own), name)
    flat: dict[Any, Any] = flatten_dict(given["params"]) | flatten_dict(given["batch_stats"])
    buffer, h5py = io.BytesIO(), import_h5py()
    with h5py.File(buffer, "w") as file:
        file.create_group("vars")  # the model's own variables; Keras 3.0 to 3.5 insist on the group
        for group, layer in layers.items():
            variables = file.create_group(f"layers/{group}/vars")
            variables.attrs["name"] = layer.name
            for index, key in enumerate(layer.arrays):
                array = np.asarray(flat[*layer.path, key])
                dataset = variables.create_dataset(str(index), data=array)
                if array.dtype == jnp.bfloat16:  # HDF5 has no such type: Keras marks it so
                    dataset.attrs["dtype"] = "bfloat16"
    write_whole(path, buffer.getvalue())


def check_save(
    path: str | os.PathLike[str],
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    overwrite: bool = False,
) -> dict[str, Layer]:
    """Checks before a long run whether `save_weights` can write at its end.

    Args and errors as in `save_weights`.

    Returns:
      The layers that `save_weights` would write, by their group in the file.

    Example:
      >>> import jaxconv
      >>> check_save("lab6.h5", jaxconv.create_model("lab6"), (28, 28, 1))
      Traceback (most recent call last):
      ValueError: Keras reads weights from NAME.weights.h5, not from 'lab6.h5': change the name.
    """
    path = Path(path)
    if not path.name.endswith(".weights.h5"):
        raise ValueError(
            f"Keras reads weights from NAME.weights.h5, not from {path.name!r}: change the name."
        )
    check_path(path, overwrite=overwrite)
    import_h5py()
    return model_layers(model, input_shape)
