"""What the file of a trained net says of it; the file may come from anywhere."""

import dataclasses
import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict

from jaxconv._checks import check_choice, check_input_shape
from jaxconv.data.arrays import IMAGE_DTYPES
from jaxconv.models import ConvNet, as_hashable, call_arguments

FORMAT = 1
FLOATS = ("bfloat16", "float16", "float32", "float64")
_WRONG = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
Shapes = Mapping[str, jax.ShapeDtypeStruct]


def settings_of(model: nn.Module) -> dict[str, Any] | None:
    """The settings of a `ConvNet` as JSON has them; None for a module that is not rebuilt.

    Example:
      >>> settings_of(ConvNet(hidden=(16,)))["hidden"], settings_of(nn.Dense(3))
      ([16], None)
    """
    if type(model) is not ConvNet:
        return None
    settings = {name: getattr(model, name) for name in _names()}
    settings |= {name: jnp.dtype(settings[name]).name for name in ("dtype", "param_dtype")}
    try:
        return json.loads(json.dumps(settings))
    except TypeError:  # an activation that is a function
        return None


def _names() -> list[str]:
    return [x.name for x in dataclasses.fields(ConvNet) if x.name not in ("parent", "name")]


def rebuild(path: Path, content: Mapping[str, Any], arrays: Shapes) -> nn.Module:
    """Makes the `ConvNet` that a file holds.

    Raises:
      ValueError: if its module is another one, or its settings make no sense.
    """
    settings = content.get("settings")
    if settings is None:
        raise ValueError(
            f"{path} holds a net of the module {content.get('module')!r}, which is not of jaxconv "
            "or has a function as a setting: pass it, load_run(path, model=...)."
        )
    try:
        check_choice("module", content["module"], ("ConvNet",))
        for name in settings:
            check_choice("setting of ConvNet", name, _names())
        for name in ("dtype", "param_dtype"):
            check_choice("dtype", settings[name], FLOATS)
            settings = {**settings, name: getattr(jnp, settings[name])}
        # A net of a million layers would be traced for hours.
        if len(settings["filters"]) + len(settings["hidden"]) > len(arrays):
            raise ValueError("it has more layers than arrays.")
        return ConvNet(**{name: as_hashable(x) for name, x in settings.items()})
    except _WRONG as error:
        raise ValueError(f"{path} holds no net that can be rebuilt: {error}") from error


def read_fields(path: Path, content: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """The fields of `Trained` that a file has, and the steps of each state.

    Raises:
      ValueError: if the file is of another format, or they make no sense.
    """
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{path} is of format {content.get('format')!r}, where this version of jaxconv reads "
            f"{FORMAT}: load it with the version that wrote it."
        )
    try:
        fields = {
            "input_shape": tuple(map(int, content["input_shape"])),
            "input_dtype": content["input_dtype"],
            "class_names": _tuple_of(str, content["class_names"]),
            "dataset": str(content["dataset"]),
            "experiment": content["experiment"] and str(content["experiment"]),
            "seeds": tuple(map(int, content["seeds"])),
            "test_accuracy": _tuple_of(_number, content["test_accuracy"]),
            "versions": dict(content["versions"]),
        }
        steps = list(map(int, content["steps"]))
        height, width, channels = fields["input_shape"]
        check_input_shape((height, width, channels))
        check_choice("input_dtype", fields["input_dtype"], [x.name for x in IMAGE_DTYPES])
        if not len(steps) == len(fields["seeds"]) >= 1:
            raise ValueError(f"it has {len(steps)} states for {len(fields['seeds'])} seeds.")
        if not all(0 <= seed < 2**32 for seed in fields["seeds"]):
            raise ValueError(f"its seeds are {fields['seeds']}.")
        return fields, steps
    except _WRONG as error:
        raise ValueError(f"{path} cannot be read: {error!r}") from error


def _tuple_of(kind: Any, values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(map(kind, values))


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def shapes_of(model: nn.Module, shape: Sequence[int]) -> tuple[dict[str, Any], Any]:
    """The shapes of a module's variables and of its logits for one image; nothing is computed."""
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    call = functools.partial(model.init_with_output, **call_arguments(model, train=False))
    rngs = {name: jax.random.key(0) for name in ("params", "dropout")}
    logits, variables = jax.eval_shape(call, rngs, image)
    return dict(variables), logits


def check_arrays(
    path: Path, model: nn.Module, arrays: Shapes, fields: Mapping[str, Any], states: int
) -> None:
    """Refuses arrays other than those of the module, before any is read.

    Raises:
      ValueError: naming the first that differs, with both shapes and dtypes.
    """
    module, shape, names = type(model).__name__, fields["input_shape"], fields["class_names"]
    try:
        variables, logits = shapes_of(model, shape)
    except _WRONG as error:
        raise ValueError(f"{path}: {module} takes no images of {shape}: {error}") from error
    own: dict[str, Any] = flatten_dict(variables, sep="/")
    stacked = () if states == 1 else (states,)
    wanted = {name: f"{(*stacked, *x.shape)} {x.dtype}" for name, x in own.items()}
    found = {name: f"{tuple(x.shape)} {x.dtype}" for name, x in arrays.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ValueError(
                f"{path} does not fit {module}: {name} is {found.get(name, 'missing')}, and should "
                f"be {wanted.get(name, 'missing')}."
            )
    if names is not None and len(names) != logits.shape[-1]:
        raise ValueError(f"{path} has {len(names)} names for {logits.shape[-1]} classes.")
