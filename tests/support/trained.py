"""A net after one step on digits, and the probabilities that `predict` then gives."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv

SHAPE = (28, 28, 1)


def trained(model: Any, image: np.ndarray) -> tuple[jaxconv.TrainState, np.ndarray]:
    """The state, in which no bias is 0 and BatchNorm has statistics, and the probabilities."""
    net = jaxconv.classifier(model, jaxconv.adam(learning_rate=0.01))
    state = net.init(jax.random.key(0), SHAPE)
    batch = {"image": jnp.asarray(image[:20]), "label": jnp.arange(20) % 10}
    state, _ = jax.jit(net.train_step)(state, batch)
    return state, np.asarray(jaxconv.predict(net, state, image))
