"""How any net is called: a Linen module, or an NNX one through Flax' bridge."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

Model = nn.Module | Callable[..., Any]
"""A Linen module, or what makes an NNX module from `rngs`: its class, or a function."""

FLAGS = {"train": True, "training": True, "deterministic": False, "use_running_average": False}
"""The names of flags, Flax' and Keras', and what they are in training."""


def as_linen(model: Model) -> nn.Module:
    """Wraps an NNX net in a Linen module, whose `init` and `apply` are pure; Linen modules stay.

    Raises:
      TypeError: for anything else, such as an NNX module that exists already, with its own state.

    Example:
      >>> from flax import nnx
      >>> type(as_linen(lambda rngs: nnx.Linear(784, 10, rngs=rngs))).__name__
      'ToLinen'

    Source: https://flax.readthedocs.io/en/latest/guides/bridge_guide.html
    """
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise TypeError(f"{model.__name__} is a class: pass a module, {model.__name__}(...).")
    from flax import nnx  # it loads as much again as Linen does

    if isinstance(model, nnx.Module) or not callable(model):
        hint = f": pass create_model({model!r})" if isinstance(model, str) else ""
        raise TypeError(
            "model must be a Linen module, or a class or function that makes an NNX module from "
            f"rngs, such as lambda rngs: MyNet(rngs=rngs); not {type(model).__name__}{hint}."
        )
    return nnx.bridge.ToLinen(model, metadata_fn=None)


def call_arguments(model: Any, *, train: bool) -> dict[str, Any]:
    """The keywords that bring a module into training or evaluation.

    A module whose `__call__` takes one of `FLAGS` gets it, and an NNX module the method that sets
    the flags of its Dropout and BatchNorm layers.

    Example:
      >>> call_arguments(nn.Dense(10), train=True)
      {}
    """
    taken = inspect.signature(type(model).__call__).parameters
    if "nnx_method" in taken:
        return {"nnx_method": _call_in_training if train else _call_in_evaluation}
    return {name: active == train for name, active in FLAGS.items() if name in taken}


@contextlib.contextmanager
def check_flag(model: nn.Module) -> Iterator[None]:
    """Refuses, while a module runs, Dropout or BatchNorm below a flag that nobody sets.

    Raises:
      ValueError: naming the flag.

    Example:
      >>> class Net(nn.Module):
      ...     @nn.compact
      ...     def __call__(self, x, is_train: bool = False):
      ...         return nn.Dropout(0.5, deterministic=not is_train)(x)
      >>> with check_flag(Net()):
      ...     _ = Net().init({}, jnp.ones((1, 2)))
      Traceback (most recent call last):
      ValueError: Net has Dropout, and its flag 'is_train' is not one of train, training (True ...
    """
    taken = inspect.signature(type(model).__call__).parameters
    unknown = [name for name, x in taken.items() if isinstance(x.default, bool)]

    def look(next_function, args, kwargs, context):
        if isinstance(context.module, nn.Dropout | nn.BatchNorm):
            raise ValueError(
                f"{type(model).__name__} has {type(context.module).__name__}, and its flag "
                f"{unknown[0]!r} is not one of train, training (True in training), deterministic, "
                "use_running_average (False in training): rename it."
            )
        return next_function(*args, **kwargs)

    if not unknown or FLAGS.keys() & taken.keys():
        yield
    else:
        with nn.intercept_methods(look):
            yield


def _call_in_training(module: Any, image: Array) -> Array:
    module.train()
    return module(image, **call_arguments(module, train=True))


def _call_in_evaluation(module: Any, image: Array) -> Array:
    module.eval()
    return module(image, **call_arguments(module, train=False))


def model_dtype(model: nn.Module) -> DTypeLike:
    """The dtype that uint8 images get: the model's `dtype`, or else float32.

    Example:
      >>> model_dtype(nn.Dense(10)).__name__
      'float32'
    """
    return getattr(model, "dtype", None) or jnp.float32


def as_float(
    image: Shaped[Array | np.ndarray, "*batch_of_images"], model: nn.Module
) -> Float[Array, "*batch_of_images"]:
    """Converts images as a step does: uint8 to [0, 1] in the model's `dtype`; floats stay.

    Raises:
      ValueError: if the images are integers other than uint8.

    Example:
      >>> as_float(np.full((1, 2, 2, 1), 255, np.uint8), nn.Dense(10)).max()
      Array(1., dtype=float32)
    """
    image = jnp.asarray(image)
    if image.dtype == jnp.uint8:
        return image.astype(model_dtype(model)) / 255
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(
            "Images must be uint8, which a step scales, or floating point, which it leaves as they "
            f"are; these are {image.dtype}: convert them, those of 0 to 255 with astype(np.uint8)."
        )
    return image
