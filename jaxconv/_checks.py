"""Checks of arguments. Their messages quote the value that was given and name the remedy."""

import difflib
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

EXTRAS = {
    "run": (
        "PIL", "filelock", "jinja2", "matplotlib", "platformdirs", "rich", "safetensors", "scipy",
        "tyro",
    ),
    "tfds": ("PIL", "importlib_resources", "tensorflow_datasets"),
    "stream": ("grain",),
    "keras": ("h5py",),
    "stablehlo": ("flatbuffers",),
    "export": ("jax2onnx",),
}  # fmt: skip
"""What each extra of the package installs, by the names that Python imports."""


def check_installed(extra: str, *names: str) -> None:
    """Refuses to go on without the packages of an extra.

    Args:
      extra: a key of `EXTRAS`.
      *names: those of its packages that are needed, as Python imports them; without names, all.

    Raises:
      ModuleNotFoundError: with the missing ones, and the line that installs them.

    Example:
      >>> check_installed("run")
    """
    missing = [name for name in names or EXTRAS[extra] if not importlib.util.find_spec(name)]
    if missing:
        raise ModuleNotFoundError(
            f"Not installed: {', '.join(missing)}. Install with: pip install 'jaxconv[{extra}]' "
            f"(in a checkout: pip install -e '.[{extra}]')"
        )


def check_positive(name: str, value: object) -> None:
    """Refuses everything but a positive integer.

    Args:
      name: the argument's name, for the message.
      value: the value to check; NumPy integers pass, booleans do not.

    Raises:
      ValueError: with the name and the value.

    Example:
      >>> check_positive("epochs", 0)
      Traceback (most recent call last):
      ValueError: epochs must be a positive integer, not 0.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a positive integer, not {value!r}.")


def check_natural(name: str, value: object) -> None:
    """Refuses everything but 0 and the positive integers.

    Args:
      name: the argument's name, for the message.
      value: the value to check; NumPy integers pass, booleans do not.

    Raises:
      ValueError: with the name and the value.

    Example:
      >>> check_natural("workers", -1)
      Traceback (most recent call last):
      ValueError: workers must be a positive integer or 0, not -1.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{name} must be a positive integer or 0, not {value!r}.")


def check_input_shape(input_shape: object) -> None:
    """Refuses all but a sequence of positive integers, the shape of one image.

    Example:
      >>> check_input_shape((None, 28, 28, 1))
      Traceback (most recent call last):
      ValueError: input_shape is that of one image, such as (28, 28, 1), not (None, 28, 28, 1).
    """
    numbers = input_shape if isinstance(input_shape, Sequence) else [None]
    if not all(isinstance(x, int | np.integer) and x > 0 for x in numbers):
        raise ValueError(
            f"input_shape is that of one image, such as (28, 28, 1), not {input_shape!r}."
        )


def check_callbacks(callbacks: object) -> None:
    """Refuses a function where a list of functions belongs.

    Example:
      >>> check_callbacks(print)
      Traceback (most recent call last):
      TypeError: callbacks must be a list of functions, such as [print], not print.
    """
    if callable(callbacks):
        name = getattr(callbacks, "__name__", repr(callbacks))
        raise TypeError(f"callbacks must be a list of functions, such as [{name}], not {name}.")


def check_choice(what: str, given: object, known: Iterable[object]) -> None:
    """Refuses an unknown name and suggests the nearest known one.

    Args:
      what: the kind of thing that is named, for the message.
      given: the name to check.
      known: the names that pass; the message lists up to 30 of them.

    Raises:
      ValueError: with the given name, the nearest match, and all known names if they are few.

    Example:
      >>> check_choice("architecture", "lab5", ["lab6", "intro"])
      Traceback (most recent call last):
      ValueError: Unknown architecture 'lab5' (did you mean 'lab6'?): use one of lab6, intro.
    """
    choices = list(known)
    if given not in choices:
        names = list(map(str, choices))
        near = difflib.get_close_matches(str(given), names, n=5)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        use = f"use one of {', '.join(names)}" if len(names) <= 30 else f"{len(names)} are known"
        raise ValueError(f"Unknown {what} {given!r}{hint}: {use}.")


def list_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lists in words how two mappings differ.

    Example:
      >>> list_changes({"seed": 1, "epochs": 5}, {"seed": 2, "epochs": 5})
      ['seed: 1 then, 2 now']
    """
    return [
        f"{name}: {old.get(name)!r} then, {new.get(name)!r} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def check_params(given: PyTree, params: PyTree, name: str = "params") -> None:
    """Refuses variables that differ from a model's own in structure, shape or dtype.

    Raises:
      ValueError: naming the first array that differs, with both shapes and dtypes.

    Example:
      >>> check_params({"bias": jnp.zeros(3)}, {"bias": jnp.zeros(10)})
      Traceback (most recent call last):
      ValueError: params['bias'] is (3,) float32, but the model's is (10,) float32: pass ...
    """
    has, wants = (
        {
            jax.tree_util.keystr(path): f"{np.shape(x)} {jnp.result_type(x)}"
            for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]
        }
        for tree in (given, params)
    )
    for path in sorted(has.keys() | wants.keys()):
        if has.get(path) != wants.get(path):
            raise ValueError(
                f"{name}{path} is {has.get(path, 'missing')}, but the model's is "
                f"{wants.get(path, 'missing')}: pass those of this model and input_shape."
            )
