"""The state of a training: arrays only, and how it begins."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Int, Key, PyTree, Shaped, UInt32

from jaxconv.training.keys import init_key


class TrainState(NamedTuple):
    """Everything that training changes, arrays only: to be donated, vmapped, sharded, saved."""

    step: Int[Array, ""]
    """Steps taken so far."""
    params: PyTree[Array]
    opt_state: PyTree[Array]
    rng: Key[Array, ""] | UInt32[Array, "2"]
    """The run's root key. It never changes."""
    batch_stats: PyTree[Array]
    """The running statistics of BatchNorm; `{}` for a model without."""


class ResumePoint(NamedTuple):
    """Where a training stands: all that it needs to go on, beside the state."""

    step: int
    """Steps taken so far, those of all replicas added up."""
    members: range
    """The replicas that the state holds; `range(1)` where there is one."""
    histories: Sequence[Sequence[Mapping[str, float]]]
    """Of each replica the rows of the epochs that ended."""
    sums: Mapping[str, np.ndarray] = {}
    """The sums of the steps that the epoch under way has taken; empty between two epochs."""
    seconds: float = 0.0
    """What these steps took."""
    stopped: bool = False
    """Whether a callback has ended the training."""


def create_train_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    rng: Key[Array, ""] | UInt32[Array, "2"] | UInt32[np.ndarray, "2"],
    input_shape: Sequence[int],
    *,
    params: PyTree[Shaped[Array | np.ndarray, "..."]] | None = None,
) -> TrainState:
    """Initial parameters and optimizer state, from the run's root key.

    Args:
      model: any Linen classifier of image batches, with a `train` argument or without.
      tx: any optax transform.
      rng: the root key of the run, `jax.random.key(seed)`.
      input_shape: the shape of one image, `(height, width, channels)`.
      params: parameters to begin with instead of random ones, e.g. from `keras.load_weights`.

    Raises:
      TypeError: if `rng` is not a key.
      ValueError: if the images are too small for the model, the model keeps variables other than
        `params` and `batch_stats`, or the given `params` are not the model's.

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
                f"The model keeps variables in {sorted(variables)}; a TrainState has room for "
                "'params' and 'batch_stats' alone."
            )
        if given is not None:
            check_params(given, params)
            params = given
        return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), rng, batch_stats)

    return init(jnp.asarray(rng), params)


def check_params(given: PyTree, params: PyTree) -> None:
    """Refuses parameters that differ from a model's own in structure, shape or dtype.

    Args:
      given: the parameters.
      params: the model's own, or their shapes.

    Raises:
      ValueError: with the first parameter that differs, what it is and what it should be.

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


def model_dtype(model: nn.Module) -> Any:
    """What uint8 images become for this model: its `dtype`, or float32 where it names none.

    Example:
      >>> model_dtype(nn.Dense(10)).__name__
      'float32'
    """
    return getattr(model, "dtype", None) or jnp.float32


def train_argument(model: nn.Module, *, train: bool) -> dict[str, Any]:
    """`{"train": train}` for a model whose `__call__` takes it, else `{}`.

    Example:
      >>> train_argument(nn.Dense(10), train=True)
      {}
    """
    takes_train = "train" in inspect.signature(type(model).__call__).parameters
    return {"train": train} if takes_train else {}


def as_float(image: Array | np.ndarray, model: nn.Module) -> Array:
    """Images as a step gives them to the model: uint8 scaled to [0, 1], floats as they are.

    Raises:
      ValueError: for other integers.

    Example:
      >>> as_float(np.full((1, 2, 2, 1), 255, np.uint8), nn.Dense(10)).max()
      Array(1., dtype=float32)
    """
    image = jnp.asarray(image)
    if image.dtype == jnp.uint8:
        return image.astype(model_dtype(model)) / 255
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(
            f"Images are uint8, which is scaled, or floating point, which is not; these are "
            f"{image.dtype}: convert them with astype."
        )
    return image
