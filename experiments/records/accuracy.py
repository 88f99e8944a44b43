"""The accuracy record: one net of 136 thousand parameters, and ten of them together.

python experiments/records/accuracy.py             # prints the claims from the kept seeds
python experiments/records/accuracy.py --seed 7    # trains one seed anew, and compares its bits
python experiments/records/accuracy.py --seeds 10  # trains and keeps the seeds that are missing
"""

import dataclasses
import functools
import time
from typing import Any

import jax
import optax
from flax import linen as nn
from jaxtyping import Array, Float

import jaxconv
from jaxconv.data import warp
from jaxconv.models import Conv, Dense, Flatten, Pool, split_batch
from jaxconv.training.average import average_weights, averaged


class Net(nn.Module):
    """Convolutions, each with BatchNorm; pooling comes before it, where it has less to do."""

    filters: tuple[int, ...]
    kernels: tuple[int, ...]
    pools: tuple[int, ...]
    """The places of the convolutions that pooling follows."""

    @nn.compact
    def __call__(
        self, image: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch classes"]:
        x = image
        for i, (filters, kernel) in enumerate(zip(self.filters, self.kernels, strict=True)):
            conv = Conv(filters, kernel, use_bias=False, name=f"conv{i + 1}")
            maps = functools.partial(conv, pool=Pool() if i in self.pools else None)
            x = maps(x) if self.is_initializing() else split_batch(maps, x)
            norm = nn.BatchNorm(not train, momentum=0.95, epsilon=1e-3, name=f"norm{i + 1}")
            x = nn.relu(norm(x))
        return Dense(10, name="logits")(Flatten()(x))


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides a training."""

    filters: tuple[int, ...] = (32, 64, 64, 128)
    kernels: tuple[int, ...] = (5, 3, 3, 3)
    pools: tuple[int, ...] = (0, 2)
    epochs: int = 12
    batch_size: int = 128
    learning_rate: float = 0.01
    """The peak of the schedule: a line up from 0 in a fifth of the steps, half a cosine to 0."""
    weight_decay: float = 1e-4
    momentum: float = 0.998
    """Of the average of the weights."""
    label_smoothing: float = 0.0
    rotation: float = 10.0
    zoom: float = 0.1
    shear: float = 5.0
    shift: float = 0.4
    elastic: float = 0.5


@functools.cache
def compiled(settings: Settings, samples: int) -> tuple[jaxconv.Classifier, Any]:
    """The net's functions, and `init` as one program."""
    steps = settings.epochs * -(-samples // settings.batch_size)
    rate = optax.warmup_cosine_decay_schedule(0.0, settings.learning_rate, steps // 5, steps)
    tx = optax.adamw(rate, b1=0.9, b2=0.99, weight_decay=settings.weight_decay)
    moves = {x: getattr(settings, x) for x in ("rotation", "zoom", "shear", "shift", "elastic")}
    net = jaxconv.classifier(
        Net(settings.filters, settings.kernels, settings.pools),
        average_weights(tx, settings.momentum),
        loss=jaxconv.smoothed_crossentropy(settings.label_smoothing),
        augment=warp(**moves),
    )
    return net, jax.jit(lambda key: net.init(key, (28, 28, 1)))


def train(settings, seed, data):
    net, init = compiled(settings, len(data["label"]))
    began = time.perf_counter()
    state, history = jaxconv.fit(
        net,
        init(jax.random.key(seed)),
        data,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        chunks=1,
    )
    jax.block_until_ready(state)
    return net, averaged(state), time.perf_counter() - began
