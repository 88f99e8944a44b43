"""What layers and train steps cost, in plain integers: no JAX, nothing measured."""

import math
from collections.abc import Sequence


def multiply_adds(kernel_shape: Sequence[int], output_shape: Sequence[int]) -> int:
    """Of one sample in a dense layer or a convolution: every weight, once at every position.

    Args:
      kernel_shape: `(inputs, units)`, or `(height, width, channels, filters)`.
      output_shape: of one sample, units or filters last.

    Example:
      >>> multiply_adds((3, 3, 32, 64), (11, 11, 64))  # conv2 of lab6
      2230272
    """
    return math.prod(kernel_shape) * math.prod(output_shape[:-1])


def train_step_flops(layers: Sequence[int], batch_size: int = 1) -> int:
    """The nominal floating-point operations of a train step: two for each multiply-add.

    A layer's product is taken three times, forward, for the gradient of its weights and for that of
    its input, which the first layer does not need. Biases, activations, pooling, the loss and the
    optimizer are left out, as is usual.

    Args:
      layers: the multiply-adds of each layer on one sample, in order; 0 for layers without weights.
      batch_size: samples a step.

    Example:
      >>> import jaxconv.tabulate
      >>> rows = jaxconv.tabulate.layer_rows(jaxconv.create_model("lab6"), (28, 28, 1))
      >>> train_step_flops([row.multiply_adds for row in rows])
      18210816
    """
    first = next((layer for layer in layers if layer), 0)
    return 2 * batch_size * (3 * sum(layers) - first)
