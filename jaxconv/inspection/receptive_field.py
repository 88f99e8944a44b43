"""The receptive field of a stack of layers, in closed form."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jaxconv._checks import check_positive
from jaxconv.inspection.arithmetic import effective_kernel_size


class ReceptiveField(NamedTuple):
    """The cells of the input that one output sees along one axis.

    Output `i` sees the `size` cells that begin at `start + i * step`; `start` is negative if they
    begin in the padding.
    """

    size: int = 1
    step: int = 1
    start: int = 0


def receptive_field(
    windows: Iterable[Sequence[int]], field: ReceptiveField | None = None
) -> ReceptiveField:
    """The receptive field of the outputs of a stack of layers along one axis.

    Args:
      windows: one for each layer, from the input on: `(kernel, stride)`, `(kernel, stride, before)`
        or `(kernel, stride, before, dilation)`, where `before` counts the zeros before the input.
      field: the receptive field of the stack's own input, if other layers precede it.

    Raises:
      ValueError: if a kernel, stride or dilation is not a positive integer.

    Example:
      >>> receptive_field([(3, 2), (3, 2), (3, 2)])  # strided
      ReceptiveField(size=15, step=8, start=0)
      >>> receptive_field([(3, 1, 1)])  # one layer with padding "same"
      ReceptiveField(size=3, step=1, start=-1)

    Source: A. Araujo, W. Norris and J. Sim, Computing Receptive Fields of Convolutional Neural
    Networks, Distill, 2019
    """
    size, step, start = field or ReceptiveField()
    for window in windows:
        kernel, stride, before, dilation = (*window, *(0, 1)[len(window) - 2 :])
        check_positive("stride", stride)
        size += (effective_kernel_size(kernel, dilation) - 1) * step
        start -= before * step
        step *= stride
    return ReceptiveField(size, step, start)
