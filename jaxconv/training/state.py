"""The state of a training, and how a training begins."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, PyTree, Shaped

from jaxconv._checks import check_input_shape, check_params
from jaxconv.models.forward import Model, as_linen, call_arguments, check_flag, model_dtype
from jaxconv.training.keys import Rng, as_key, dropout_key, init_key
from jaxconv.training.transforms import check_tx


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
    best: PyTree[Array] = ()
    """The net of the best epoch, if `keep_best` asks for it."""


def create_train_state(
    model: Model,
    tx: optax.GradientTransformation,
    rng: Any,
    input_shape: Sequence[int],
    *,
    params: PyTree[Shaped[Array | np.ndarray, "..."]] | None = None,
    batch_stats: PyTree[Shaped[Array | np.ndarray, "..."]] | None = None,
) -> TrainState:
    """Makes the state at step 0: initial parameters and optimizer state, from a run's root key.

    Args:
      model: a classifier of image batches, as in `classifier`.
      tx: any optax transform.
      rng: the root key, `jax.random.key(seed)`; an older key `uint32[2]` becomes a typed one.
      input_shape: the shape of one image, `(height, width, channels)`.
      params: parameters to start from, e.g. from `export.load_weights`; None for random ones.
      batch_stats: running statistics that belong to `params`; None for those of a new net.

    Raises:
      TypeError: if `rng` is not a key, `model` is not a module, or `tx` is no optax transform.
      ValueError: if the images are too small, the model has variables other than `params` and
        `batch_stats` or a flag that nobody sets (`check_flag`), or the given arrays do not fit.

    Example:
      >>> import jaxconv
      >>> model = jaxconv.create_model("lab6")
      >>> state = create_train_state(model, jaxconv.rmsprop(), jax.random.key(1), (28, 28, 1))
      >>> sum(x.size for x in jax.tree.leaves(state.params))
      104202
    """
    net = as_linen(model)
    check_tx(tx)
    check_input_shape(input_shape)
    image = jnp.zeros((1, *input_shape), model_dtype(net))

    @jax.jit
    def init(rng: Rng, given: dict[str, PyTree]) -> TrainState:
        # An NNX net with Dropout asks for both keys when it is made.
        rngs = {"params": init_key(rng), "dropout": dropout_key(rng, 0)}
        with check_flag(net):
            variables = dict(net.init(rngs, image, **call_arguments(net, train=False)))
        own = {name: variables.pop(name, {}) for name in given}
        if variables:
            raise ValueError(
                f"The model has variables in {sorted(variables)}, but a TrainState holds only "
                "'params' and 'batch_stats'."
            )
        for name, arrays in given.items():
            if arrays is not None:
                check_params(arrays, own[name], name)
                own[name] = arrays
        return TrainState(
            step=jnp.zeros((), jnp.int32), opt_state=tx.init(own["params"]), rng=rng, **own
        )

    return init(as_key(rng), {"params": params, "batch_stats": batch_stats})
