"""Stock Flax, as in its MNIST example: `nn.Conv`, `nn.max_pool`, one jitted step a call.

`bench_peers.py` starts it.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

from experiments.benchmarks.keras_nets import Notebook
from experiments.benchmarks.peers.peer_main import Digits, main

KINDS = {
    "lab6": {"filters": (32, 64, 128), "pools": 2},
    "intro": {"filters": (32, 64, 64), "pools": 2, "hidden": (64,)},
    "strided": {"filters": (16, 32, 64), "stride": 2, "hidden": (64,), "linear": True},
    "dropout": {"filters": (32, 64), "pools": 2, "rate": 0.5},
    "dense": {"filters": (), "hidden": (512,)},
}


class CNN(nn.Module):
    """Any of the notebooks' nets."""

    filters: tuple[int, ...]
    pools: int = 0
    hidden: tuple[int, ...] = ()
    stride: int = 1
    linear: bool = False
    rate: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        init = nn.initializers.glorot_uniform()
        for i, filters in enumerate(self.filters):
            strides = (self.stride, self.stride)
            x = nn.Conv(filters, (3, 3), strides, padding="VALID", kernel_init=init)(x)
            x = x if self.linear else nn.relu(x)
            x = nn.max_pool(x, (2, 2), strides=(2, 2)) if i < self.pools else x
        x = x.reshape((x.shape[0], -1))
        x = nn.Dropout(self.rate, deterministic=not train)(x)
        for units in self.hidden:
            x = nn.relu(nn.Dense(units, kernel_init=init)(x))
        return nn.Dense(10, kernel_init=init)(x)


@functools.partial(jax.jit, donate_argnums=0)
def train_step(state: TrainState, image: jax.Array, label: jax.Array, key: jax.Array):
    def loss_fn(params):
        rngs = {"dropout": jax.random.fold_in(key, state.step)}
        logits = state.apply_fn({"params": params}, image, train=True, rngs=rngs)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
        return loss, (logits.argmax(-1) == label).mean()

    (loss, accuracy), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    return state.apply_gradients(grads=grads), loss, accuracy


@jax.jit
def count_correct(state: TrainState, image: jax.Array, label: jax.Array) -> jax.Array:
    logits = state.apply_fn({"params": state.params}, image, train=False)
    return (logits.argmax(-1) == label).sum()


class Flax:
    """A `TrainState`, and batches of NumPy rows; an epoch's means are fetched when it ends."""

    def __init__(self, net: str, notebook: Notebook) -> None:
        model = CNN(**KINDS[net])
        self.device = jax.devices()[0].device_kind
        self.random = np.random.default_rng(0)
        self.key, init = jax.random.split(jax.random.key(0))
        params = model.init(init, jnp.ones((1, 28, 28, 1)), train=False)["params"]
        tx = optax.adam if notebook.optimizer == "adam" else optax.rmsprop
        self.state = TrainState.create(apply_fn=model.apply, params=params, tx=tx(1e-3, eps=1e-7))

    def prepare(self, digits: Digits) -> Digits:
        image = digits.image.astype(np.float32)
        image /= 255
        return Digits(image, digits.label)

    def fit(self, train: Digits, notebook: Notebook, epochs: int, test: Digits | None) -> float:
        kept = int(len(train.image) * (1 - (notebook.validation_split if test else 0)))
        held_out = Digits(train.image[kept:], train.label[kept:])
        if notebook.validate_on_test and test:
            held_out = test
        size, seconds = notebook.batch_size, 0.0
        for _ in range(epochs):
            began = time.perf_counter()
            order, losses, accuracies = self.random.permutation(kept), [], []
            for start in range(0, kept, size):
                rows = order[start : start + size]
                self.state, loss, accuracy = train_step(
                    self.state, train.image[rows], train.label[rows], self.key
                )
                losses.append(loss)
                accuracies.append(accuracy)
            self.means = np.mean(jax.device_get(losses)), np.mean(jax.device_get(accuracies))
            jax.block_until_ready(self.state)
            if len(held_out.image):
                self.accuracy(held_out)
            seconds = time.perf_counter() - began
        return seconds

    def accuracy(self, test: Digits) -> float:
        parts = range(0, len(test.image), 200)
        correct = (
            count_correct(self.state, test.image[i : i + 200], test.label[i : i + 200])
            for i in parts
        )
        return float(sum(correct)) / len(test.image)


if __name__ == "__main__":
    main(Flax, "flax", "optax", "jax", "jaxlib", "numpy")
