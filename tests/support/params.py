"""The initial parameters of a model, without a train state."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

MNIST_SHAPE = (28, 28, 1)


def params_of(model: nn.Module, shape: tuple[int, ...] = MNIST_SHAPE, seed: int = 0) -> Any:
    return model.init(jax.random.key(seed), jnp.zeros((1, *shape)))["params"]
