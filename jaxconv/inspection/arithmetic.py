"""Output sizes, parameters and FLOPs in closed form."""

import math
from collections.abc import Sequence

from jax import lax

from jaxconv._checks import check_positive

Padding1D = str | int | tuple[int, int]


def effective_kernel_size(kernel: int, dilation: int = 1) -> int:
    """The cells that a window spans, `dilation * (kernel - 1) + 1`; errors as in `output_size`.

    Example:
      >>> effective_kernel_size(3), effective_kernel_size(3, dilation=2)
      (3, 5)
    """
    check_positive("kernel", kernel)
    check_positive("dilation", dilation)
    return dilation * (kernel - 1) + 1


def explicit_padding(
    size: int, kernel: int, stride: int = 1, padding: Padding1D = "valid", dilation: int = 1
) -> tuple[int, int]:
    """The zeros that a padding adds along one axis, before the input and after it.

    `"same"` makes the output `ceil(size / stride)` long. It splits the zeros evenly; if their
    number is odd, the extra one goes after the input. `"full"` lets every cell of the kernel meet
    every cell of the input.

    Args and errors as in `output_size`, but a window that does not fit raises nothing.

    Example:
      >>> explicit_padding(5, 3, padding="same"), explicit_padding(28, 3, 2, "same")
      ((1, 1), (0, 1))

    Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
    """
    check_positive("size", size)
    check_positive("stride", stride)
    extent = effective_kernel_size(kernel, dilation)
    name = padding.upper() if isinstance(padding, str) else ""
    if name in ("VALID", "SAME"):
        return lax.padtype_to_pads((size,), (extent,), (stride,), name)[0]
    sides = (extent - 1, extent - 1) if name == "FULL" else padding
    before, after = sides if isinstance(sides, tuple) and len(sides) == 2 else (sides, sides)
    if not (isinstance(before, int) and isinstance(after, int) and min(before, after) >= 0):
        raise ValueError(
            "padding is 'valid', 'same', 'full', a number of zeros on each side or (before, "
            f"after), not {padding!r}."
        )
    return before, after


def output_size(
    size: int, kernel: int, stride: int = 1, padding: Padding1D = "valid", dilation: int = 1
) -> int:
    """The number of outputs of a convolution or a pooling along one axis.

    Args:
      size: the cells of the input.
      kernel: the cells of the window.
      stride: the distance between two windows.
      padding: `"valid"`, `"same"` or `"full"` in upper or lower case, the zeros on each side, or
        (before, after).
      dilation: the distance between two cells of a window.

    Returns:
      `floor((size + zeros - extent) / stride) + 1`, which the notebooks write `(I - K) / S + 1`.

    Raises:
      ValueError: if an argument is malformed, or no window fits.

    Example:
      >>> [output_size(size, 3, stride=2) for size in (28, 13, 6)]  # strided, notebook 000
      [13, 6, 2]
      >>> [output_size(size, 3, stride=2, padding="same") for size in (28, 14, 7)]
      [14, 7, 4]

    Source: V. Dumoulin and F. Visin, A guide to convolution arithmetic for deep learning, 2016
    """
    padded = size + sum(explicit_padding(size, kernel, stride, padding, dilation))
    extent = effective_kernel_size(kernel, dilation)
    if padded < extent:
        raise ValueError(
            f"A window over {extent} cells does not fit into {size} with padding {padding!r}: take "
            "a larger input, a smaller kernel, or padding 'same'."
        )
    return (padded - extent) // stride + 1


def conv_params(
    kernel_size: Sequence[int], channels: int, filters: int, *, bias: bool = True
) -> int:
    """The parameters of a convolution, `(height * width * channels + bias) * filters`.

    `kernel_size` is `(height, width)`, or has as many axes as the kernel.

    Raises:
      ValueError: if a number is not a positive integer.

    Example:
      >>> conv_params((3, 3), 1, 16), conv_params((3, 3), 16, 32), conv_params((3, 3), 5, 16)
      (160, 4640, 736)
    """
    for size in kernel_size:
        check_positive("kernel_size", size)
    return dense_params(math.prod(kernel_size) * channels, filters, bias=bias)


def dense_params(inputs: int, units: int, *, bias: bool = True) -> int:
    """The parameters of a dense layer, `(inputs + bias) * units`; errors as in `conv_params`.

    Example:
      >>> dense_params(28 * 28, 30)  # notebook 004
      23550
    """
    check_positive("inputs", inputs)
    check_positive("units", units)
    return (inputs + bias) * units


def macs(kernel_shape: Sequence[int], output_shape: Sequence[int]) -> int:
    """The multiply-adds of a dense layer or a convolution on one sample.

    Every weight multiplies once at every position of the output. The shapes are `(inputs, units)`
    or `(height, width, channels, filters)`, and that of one sample's output, units or filters last.

    Example:
      >>> macs((3, 3, 32, 64), (11, 11, 64))  # conv2 of lab6
      2230272
    """
    return math.prod(kernel_shape) * math.prod(output_shape[:-1])


def train_step_flops(layers: Sequence[int | None], batch_size: int = 1) -> int:
    """The nominal floating-point operations of a train step: two for each multiply-add.

    A step computes three products for each layer: the output, the gradient of the weights and that
    of the input. The first layer needs no gradient of its input. As is usual, the count leaves out
    biases, activations, pooling, the loss and the optimizer. `layers` holds the multiply-adds of
    each layer on one sample, in order, 0 or None for a layer that is not counted.

    Example:
      >>> import jaxconv
      >>> rows = jaxconv.inspection.layer_rows(jaxconv.create_model("lab6"), (28, 28, 1))
      >>> train_step_flops([row.macs for row in rows])
      18210816
    """
    counted = [layer for layer in layers if layer]
    return 2 * batch_size * (3 * sum(counted) - sum(counted[:1]))
