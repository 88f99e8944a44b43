"""The layers of a Linen model as Keras numbers them, and how they differ from those of a file."""

from collections.abc import Mapping, Sequence
from typing import Any

from flax import linen as nn
from flax.traverse_util import flatten_dict

from jaxconv.export._keras_files import BATCH_NORM, Layer, is_bfloat16
from jaxconv.inspection.summary import trace_layers

_STEMS = {("Conv", 4): "conv2d", ("Dense", 2): "dense", ("BatchNorm", 0): "batch_normalization"}
"""Keras' names of the groups, by the kind of a layer and the axes of its kernel."""


def model_layers(model: nn.Module, input_shape: Sequence[int]) -> dict[str, Layer]:
    """The model's layers with parameters, by the group that Keras would give each."""
    rows, variables = trace_layers(model, input_shape)
    rest: dict[tuple[str, ...], Any] = flatten_dict(variables.get("params", {}))
    rest |= flatten_dict(variables.get("batch_stats", {}))
    layers: dict[str, Layer] = {}
    for row in rows:
        if row.params == 0:
            continue
        names = BATCH_NORM if row.kind == "BatchNorm" else ("kernel", "bias")
        own = {key: rest.pop((*row.path, key)) for key in names if (*row.path, key) in rest}
        stem = _STEMS.get((row.kind, own["kernel"].ndim if "kernel" in own else 0))
        if stem is None or row.params != sum(x.size for x in own.values()):
            raise ValueError(
                f"Layer {row.name!r} of {type(model).__name__} is a {row.kind} of {row.params:,} "
                "parameters: only Dense, BatchNorm and Conv in two dimensions are carried over."
            )
        same = sum(group.startswith(stem) for group in layers)
        layers[f"{stem}_{same}" if same else stem] = Layer(row.path, own)
    if rest:
        left = ", ".join("/".join(path) for path in rest)
        raise ValueError(f"{type(model).__name__} has parameters outside of its layers: {left}.")
    return layers


def collection(key: str) -> str:
    """The collection of variables that an array of this name is in."""
    return "batch_stats" if key in ("mean", "var") else "params"


def mismatches(expected: Mapping[str, Layer], found: Mapping[str, Layer]) -> list[str]:
    """One line for each layer that differs, or that one side lacks."""
    problems = []
    for group in dict.fromkeys([*expected, *found]):
        ours, theirs = (layers.get(group, Layer((), {})) for layers in (expected, found))
        keys = dict.fromkeys([*ours.arrays, *theirs.arrays])
        wants, has = (
            ", ".join(_describe(key, side.arrays) for key in keys) for side in (ours, theirs)
        )
        if has != wants:
            layer = f"layer {ours.name!r}" if ours.name else "no layer"
            named = f", named {theirs.name!r}" if theirs.name else ""
            problems.append(f"{layer} ({group} in the file{named}): has {has}; should have {wants}")
    return problems


def _describe(key: str, arrays: Mapping[str, Any]) -> str:
    """An array's shape and any obstacle to loading it; equal texts mean that the arrays fit."""
    if key not in arrays:
        return f"no {key}"
    array = arrays[key]
    kind = "" if array.dtype.kind == "f" or is_bfloat16(array) else f" of {array.dtype}"
    elsewhere = getattr(array, "external", None) or getattr(array, "is_virtual", False)
    return f"{key} {array.shape}{kind}{' kept in another file' if elsewhere else ''}"
