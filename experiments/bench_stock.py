"""An epoch of jaxconv against stock Flax: `nn.Conv`, `nn.max_pool`, one jitted step a call.

    python experiments/bench_stock.py
    python experiments/bench_stock.py --nets lab6 --steps 100 --rounds 5

Both sides train the same net on the same batches of the bundled MNIST, warm, in rounds that
alternate, so that a machine that drifts hits both alike. The figures are medians over the rounds,
scaled from --steps steps to an epoch. It needs the core packages alone.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

import jaxconv
from jaxconv.models import ARCHITECTURES
from jaxconv.timing import environment

BATCH_SIZE = {"lab6": 64, "strided": 32}


class Stock(nn.Module):
    """The net as a Flax user writes it."""

    net: jaxconv.ConvNet

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        net = self.net
        for i, filters in enumerate(net.filters):
            x = nn.Conv(filters, (3, 3), strides=net.strides, padding="VALID")(x)
            x = nn.relu(x) if net.activation == "relu" else x
            x = nn.max_pool(x, (2, 2), strides=(2, 2)) if i < net.num_pools else x
        x = x.reshape(x.shape[0], -1)
        for units in net.hidden:
            x = nn.relu(nn.Dense(units)(x))
        return nn.Dense(net.num_classes)(x)


def stock(name: str, data: jaxconv.Split, order: np.ndarray, steps: int) -> Callable[[], None]:
    """A function that takes some steps, one jitted call each, on float32 batches from the host."""
    model, tx = Stock(jaxconv.ConvNet(**ARCHITECTURES[name])), optax.adam(1e-3)
    image, label = data.image.astype(np.float32) / 255, data.label
    params = jax.jit(model.init)(jax.random.key(0), image[:1])
    state = [params, tx.init(params)]

    @jax.jit
    def step(params, opt_state, image, label):
        def loss(params):
            logits = jnp.asarray(model.apply(params, image))
            return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    batches = order[: steps * BATCH_SIZE[name]].reshape(steps, -1)

    def run() -> None:
        for rows in batches:
            state[:] = step(*state, image[rows], label[rows])
        jax.block_until_ready(state)

    return run


def ours(name: str, data: jaxconv.Split, order: np.ndarray, steps: int) -> Callable[[], None]:
    """A function that takes as many steps of `train_epoch`, in one call."""
    model, tx = jaxconv.create_model(name), jaxconv.adam()
    train_step = jaxconv.make_train_step(model, tx)
    batch = jax.device_put(data.batch())
    epoch = functools.partial(
        jaxconv.train_epoch, train_step=train_step, batch_size=BATCH_SIZE[name]
    )
    epoch = jax.jit(epoch, donate_argnums=0)
    state = [jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))]
    permutation = jnp.asarray(order)

    def run() -> None:
        state[0], _ = epoch(state[0], batch, permutation, 0, steps)
        jax.block_until_ready(state)

    return run


def main(nets: list[str], steps: int, rounds: int) -> None:
    data = jaxconv.load_dataset("mnist").train
    order = np.asarray(jaxconv.epoch_permutation(jax.random.key(0), 0, len(data)))
    facts = environment()
    print(f"{facts['device_kind']}, jax {facts['jax_version']}, {rounds} rounds of {steps} steps\n")
    print("| net | stock Flax, s an epoch | jaxconv, s an epoch | stock ÷ jaxconv |")
    print("|---|---|---|---|")
    for name in nets:
        sides = [make(name, data, order, steps) for make in (stock, ours)]
        seconds: list[list[float]] = [[], []]
        for run in sides:
            run()  # compiles
        for _ in range(rounds):
            for run, taken in zip(sides, seconds, strict=True):
                began = time.perf_counter()
                run()
                taken.append(time.perf_counter() - began)
        scale = len(data) / BATCH_SIZE[name] / steps
        theirs, own = (scale * statistics.median(taken) for taken in seconds)
        ratios = [a / b for a, b in zip(*seconds, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"| `{name}` | {theirs:.1f} | {own:.1f} | {statistics.median(ratios):.2f} ({spread}) |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", choices=BATCH_SIZE, default=list(BATCH_SIZE))
    parser.add_argument("--steps", type=int, default=100, help="steps a round (default: 100)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: 5)")
    arguments = parser.parse_args()
    if not (0 < arguments.steps <= 900 and arguments.rounds > 0):
        parser.error("--steps must be 1 to 900 and --rounds positive")
    main(arguments.nets, arguments.steps, arguments.rounds)
