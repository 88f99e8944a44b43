"""What layers and train steps come to, in plain integers: no JAX, nothing measured."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Padding1D = str | int | tuple[int, int]


def effective_kernel_size(kernel: int, dilation: int = 1) -> int:
    """The cells along one axis from a window's first to its last.

    Args:
      kernel: its cells.
      dilation: the distance between two of them.

    Raises:
      ValueError: if one of them is no positive integer.

    Example:
      >>> effective_kernel_size(3), effective_kernel_size(3, dilation=2)
      (3, 5)
    """
    _check_positive(kernel=kernel, dilation=dilation)
    return dilation * (kernel - 1) + 1


def explicit_padding(
    size: int, kernel: int, stride: int = 1, padding: Padding1D = "valid", dilation: int = 1
) -> tuple[int, int]:
    """The zeros that padding adds along one axis, before and after.

    `"same"` adds what makes the output `ceil(size / stride)`, as evenly as it can, and where that
    is odd one more after; `"full"` what lets every part of the kernel meet every cell.

    The arguments and errors are those of `output_size`.

    Example:
      >>> explicit_padding(5, 3, padding="same"), explicit_padding(28, 3, 2, "same")
      ((1, 1), (0, 1))

    Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
    """
    _check_positive(size=size, stride=stride)
    extent = effective_kernel_size(kernel, dilation)
    if isinstance(padding, str):
        name = padding.lower()
        if name == "valid":
            return 0, 0
        if name == "full":
            return extent - 1, extent - 1
        if name == "same":
            total = max((-(-size // stride) - 1) * stride + extent - size, 0)
            return total // 2, total - total // 2
    sides = padding if isinstance(padding, tuple) else (padding, padding)
    numbers = [n for n in sides if isinstance(n, int) and n >= 0]
    if len(sides) != 2 or len(numbers) != 2:
        raise ValueError(
            "padding is 'valid', 'same', 'full', a number of zeros on each side or (before, "
            f"after), not {padding!r}."
        )
    return numbers[0], numbers[1]


def output_size(
    size: int, kernel: int, stride: int = 1, padding: Padding1D = "valid", dilation: int = 1
) -> int:
    """The outputs of a convolution or a pooling along one axis.

    `floor((size + zeros - extent) / stride) + 1`, which the notebooks write `(I - K) / S + 1`.

    Args:
      size: the cells of the input.
      kernel: those of the window.
      stride: the distance between two windows.
      padding: `"valid"`, `"same"` or `"full"` in any case, zeros on each side, or (before, after).
      dilation: the distance between two cells of a window.

    Raises:
      ValueError: if an argument is malformed, or no window fits.

    Example:
      >>> [output_size(size, 3, stride=2) for size in (28, 13, 6)]  # strided, notebook 000
      [13, 6, 2]
      >>> [output_size(size, 3, stride=2, padding="same") for size in (28, 14, 7)]
      [14, 7, 4]
      >>> output_size(4, 2, padding="full")
      5

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
    """The parameters of a convolution: each filter has a kernel over all channels, and a bias.

    Raises:
      ValueError: if a number is no positive integer.

    Example:
      >>> conv_params((3, 3), 1, 16), conv_params((3, 3), 16, 32), conv_params((3, 3), 5, 16)
      (160, 4640, 736)
    """
    for size in kernel_size:
        _check_positive(kernel_size=size)
    return dense_params(math.prod(kernel_size) * channels, filters, bias=bias)


def dense_params(inputs: int, units: int, *, bias: bool = True) -> int:
    """The parameters of a dense layer: each unit has a weight for each input, and a bias.

    Raises:
      ValueError: if a number is no positive integer.

    Example:
      >>> dense_params(28 * 28, 30)  # notebook 004
      23550
    """
    _check_positive(inputs=inputs, units=units)
    return (inputs + bias) * units


class ReceptiveField(NamedTuple):
    """Which cells of the input an output sees along one axis; the i-th from start + i·step on."""

    size: int = 1
    """How many."""
    step: int = 1
    """How far apart the fields of two neighbours begin."""
    start: int = 0
    """Where that of the first output begins: below 0 in the zeros added."""


def receptive_field(
    windows: Iterable[Sequence[int]], field: ReceptiveField | None = None
) -> ReceptiveField:
    """The receptive field of a stack of layers along one axis.

    Args:
      windows: its layers, from the input on: `(kernel, stride)`, and if they are not 0 and 1 the
        zeros added before the input and the dilation.
      field: that of the stack's own input, if something lies before it.

    Raises:
      ValueError: if a kernel, stride or dilation is no positive integer.

    Example:
      >>> receptive_field([(3, 2), (3, 2), (3, 2)])  # strided
      ReceptiveField(size=15, step=8, start=0)
      >>> receptive_field([(3, 1, 1)])  # one layer with padding "same"
      ReceptiveField(size=3, step=1, start=-1)

    Source: A. Araujo, W. Norris and J. Sim, Computing Receptive Fields of Convolutional Neural
    Networks, Distill, 2019
    """
    for window in windows:
        field = _through(field or ReceptiveField(), *window)
    return field or ReceptiveField()


def _through(
    field: ReceptiveField, kernel: int, stride: int, before: int = 0, dilation: int = 1
) -> ReceptiveField:
    _check_positive(stride=stride)
    size, step, start = field
    extent = effective_kernel_size(kernel, dilation)
    return ReceptiveField(size + (extent - 1) * step, stride * step, start - before * step)


def macs(kernel_shape: Sequence[int], output_shape: Sequence[int]) -> int:
    """Of one sample in a dense layer or a convolution: every weight, once at every position.

    Args:
      kernel_shape: `(inputs, units)`, or `(height, width, channels, filters)`.
      output_shape: of one sample, units or filters last.

    Example:
      >>> macs((3, 3, 32, 64), (11, 11, 64))  # conv2 of lab6
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
      >>> import jaxconv
      >>> rows = jaxconv.inspection.layer_rows(jaxconv.create_model("lab6"), (28, 28, 1))
      >>> train_step_flops([row.macs for row in rows])
      18210816
    """
    first = next((layer for layer in layers if layer), 0)
    return 2 * batch_size * (3 * sum(layers) - first)


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be a positive integer, not {number!r}.")
