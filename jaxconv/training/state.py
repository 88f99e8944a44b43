"""The state of a training, and how a training begins."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PyTree, Shaped, UInt32

from jaxconv.training.keys import Rng, init_key
from jaxconv.training.metrics import Row


class TrainState(NamedTuple):
    """All that training changes, as arrays: you can donate, vmap, shard and save it."""

    step: Int[Array, ""]
    """The steps taken so far."""
    params: PyTree[Array]
    opt_state: PyTree[Array]
    rng: Rng
    """The root key of the run. It never changes."""
    batch_stats: PyTree[Array]
    """The running statistics of BatchNorm; `{}` for a model without it."""


class ResumePoint(NamedTuple):
    """Where a training stands: all that it needs to continue, apart from its `TrainState`."""

    step: int
    """The steps taken so far, summed over all replicas."""
    members: range
    """The replicas in the state; `range(1)` if there is one."""
    histories: Sequence[Sequence[Row]]
    """For each replica, the rows of its finished epochs."""
    sums: Mapping[str, np.ndarray] = {}
    """The sums of the steps taken in the current epoch; empty between two epochs."""
    seconds: float = 0.0
    """The time that these steps took."""
    stopped: bool = False
    """Whether a callback has ended the training."""


def create_train_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    rng: Rng | UInt32[np.ndarray, "2"],
    input_shape: Sequence[int],
    *,
    params: PyTree[Shaped[Array | np.ndarray, "..."]] | None = None,
) -> TrainState:
    """Initialises the parameters and the optimizer from the root key of a run.

    Args:
      model: any Linen classifier of image batches, with or without a `train` argument.
      tx: any optax transform.
      rng: the root key, `jax.random.key(seed)`.
      input_shape: the shape of one image, `(height, width, channels)`.
      params: parameters to start from instead of random ones, e.g. from `export.load_weights`.

    Returns:
      The state at step 0.

    Raises:
      TypeError: if `rng` is not a key.
      ValueError: if the images are too small for the model, if the model has variables other than
        `params` and `batch_stats`, or if the given `params` do not fit the model.

    Example:
      >>> import jaxconv
      >>> model = jaxconv.create_model("lab6")
      >>> state = create_train_state(model, jaxconv.rmsprop(), jax.random.key(1), (28, 28, 1))
      >>> sum(x.size for x in jax.tree.leaves(state.params))
      104202
    """
    if not isinstance(rng, jax.Array | np.ndarray):
        raise TypeError(f"rng must be a PRNG key such as jax.random.key(0), not {rng!r}.")
    image = jnp.zeros((1, *input_shape), model_dtype(model))

    @jax.jit
    def init(rng: Array, given: PyTree | None) -> TrainState:
        variables = dict(model.init(init_key(rng), image, **train_argument(model, train=False)))
        params = variables.pop("params", {})
        batch_stats = variables.pop("batch_stats", {})
        if variables:
            raise ValueError(
                f"The model has variables in {sorted(variables)}, but a TrainState holds only "
                "'params' and 'batch_stats'."
            )
        if given is not None:
            check_params(given, params)
            params = given
        return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), rng, batch_stats)

    return init(jnp.asarray(rng), params)


def check_params(given: PyTree, params: PyTree) -> None:
    """Refuses parameters that differ from a model's own in structure, shape or dtype.

    Args:
      given: the parameters to check.
      params: the model's own parameters, or their shapes.

    Raises:
      ValueError: naming the first parameter that differs, with both shapes and dtypes.

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
                f"params{path} is {has.get(path, 'missing')}, but the model's is "
                f"{wants.get(path, 'missing')}: pass parameters of this model and input_shape."
            )


def model_dtype(model: nn.Module) -> DTypeLike:
    """The dtype to which a step converts uint8 images: the model's `dtype`, or else float32.

    Example:
      >>> model_dtype(nn.Dense(10)).__name__
      'float32'
    """
    return getattr(model, "dtype", None) or jnp.float32


def train_argument(model: nn.Module, *, train: bool) -> dict[str, Any]:
    """The keyword `train` for a model whose `__call__` takes it, and nothing for any other.

    Example:
      >>> train_argument(nn.Dense(10), train=True)
      {}
    """
    takes_train = "train" in inspect.signature(type(model).__call__).parameters
    return {"train": train} if takes_train else {}


def as_float(
    image: Shaped[Array | np.ndarray, "*batch_of_images"], model: nn.Module
) -> Float[Array, "*batch_of_images"]:
    """Converts images as a step does: it scales uint8 to [0, 1] and leaves floats as they are.

    Args:
      image: images of any shape.
      model: the classifier, whose `dtype` the scaled images get.

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
            f"are; these are {image.dtype}: convert them with astype."
        )
    return image
