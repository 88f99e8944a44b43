"""Prints the peak memory of a streamed epoch; `test_stream.py` compares it for two sizes.

python tests/data/stream_memory.py FOLDER
"""

import sys

import jax
import jax.numpy as jnp
from flax import linen as nn

import jaxconv
from jaxconv.data.stream import open_streamed
from jaxconv.measure.environment import peak_memory


class Small(nn.Module):
    @nn.compact
    def __call__(self, image):
        return nn.Dense(10)(jnp.mean(image, axis=(1, 2)))


if __name__ == "__main__":
    data = open_streamed("tfds:pictures", data_dir=sys.argv[1])
    net = jaxconv.classifier(Small(), jaxconv.adam())
    state = net.init(jax.random.key(0), data.input_shape)
    _, history = jaxconv.fit(net, state, data.train, epochs=1, batch_size=32)
    print(len(data.train), peak_memory()["peak_rss_bytes"])
