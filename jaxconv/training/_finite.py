"""The check that a training is still finite."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from jaxconv.training.state import TrainState


def raise_if_not_finite(states: TrainState, epoch: int, sums: Mapping[str, np.ndarray]) -> None:
    """Checks the losses of an epoch so far, then parameters and BatchNorm's statistics.

    The states are those of all replicas after these steps, the sums are `[replicas, steps]`.

    Raises:
      FloatingPointError: naming the first step whose loss is not finite, or the last step taken if
        its update made a parameter so.
    """
    bad = np.argwhere(~np.isfinite(sums["loss"].T))
    if bad.size:
        step, replica = bad[0]
        found = f"The loss is {sums['loss'][replica, step]} at step {step + 1} of epoch {epoch}"
    elif not jax.device_get(_all_finite((states.params, states.batch_stats))):
        step = int(np.max(jax.device_get(states.step)))
        found = f"A parameter is no longer finite after step {step}, in epoch {epoch}"
    else:
        return
    raise FloatingPointError(
        f"{found}. Likely causes: the learning rate is too high, the images are not scaled, a "
        "label is no class of the net, or the dtype has too small a range."
    )


@jax.jit
def _all_finite(tree: PyTree[Array]) -> Bool[Array, ""]:
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in leaves] or [jnp.array(True)]))
