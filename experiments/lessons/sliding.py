"""The steps of a window that slides over small integers, with the arithmetic of each output.

`python experiments/lessons/animate.py` draws them. Arrays are in the order in which they are drawn:
`[channel, row, column]`, and kernels `[filter, channel, row, column]`.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxconv._checks import check_choice, check_positive
from jaxconv.inspection import explicit_padding, output_size
from jaxconv.models import avg_pool, conv, max_pool

MAX_SIZES = {"input_size": 12, "kernel": 5, "channels": 3, "filters": 4}
"""The largest sizes that are legible."""
MAX_PADDING, MAX_STEPS = 4, 150


@dataclasses.dataclass(frozen=True)
class Window:
    """The settings of a sliding window, the same for height and width."""

    input_size: int = 5
    kernel: int = 3
    stride: int | None = None  # None: 1, and the size of the window for pooling
    padding: int | str = "valid"
    channels: int = 1
    filters: int = 1
    operation: str = "conv"


class Step(NamedTuple):
    """One place of the window, and the output that it gives."""

    cell: tuple[int, int, int]
    """The output's cell: filter (for pooling, channel), row, column."""
    covered: tuple[tuple[int, int], ...]
    """The cells (row, column) of the padded input under the window."""
    lines: tuple[str, ...]
    """The output's arithmetic."""


class Slide(NamedTuple):
    """All numbers of a slide, and its steps in the order of the output's cells."""

    window: Window
    image: np.ndarray
    kernels: np.ndarray | None
    """None for pooling."""
    output: np.ndarray
    formula: str
    """The formula of the output's size, with numbers."""
    padded: np.ndarray
    """The image with its padding."""
    padding_cells: frozenset[tuple[int, int]]
    """The cells (row, column) of `padded` that are not the image's."""
    steps: tuple[Step, ...]


def slide(window: Window, seed: int = 0) -> Slide:
    """Slides a window over random integers, as `jaxconv.models.conv` and the poolings do.

    Args:
      window: the settings.
      seed: that of the numbers. A convolution's input has 0 to 3 and its kernels 0 to 2, so that
        products stay short; pooling has 0 to 9.

    Raises:
      ValueError: if a setting is malformed, the window does not fit, or there is too much to read.

    Example:
      >>> steps = slide(Window(input_size=4, kernel=2, operation="max")).steps
      >>> len(steps), steps[0].lines
      (4, ('max(8, 6, 3, 0) = 8',))
    """
    pooling = window.operation != "conv"
    if window.stride is None:
        window = dataclasses.replace(window, stride=window.kernel if pooling else 1)
    check_window(window, seed)
    n, k, stride = window.input_size, window.kernel, window.stride or 1
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 10 if pooling else 4, (window.channels, n, n))
    kernels = None if pooling else rng.integers(0, 3, (window.filters, window.channels, k, k))
    output = _output(window, image, kernels)
    before, after = padding = explicit_padding(n, k, stride, window.padding)
    padded = np.pad(image, ((0, 0), padding, padding))
    real = np.pad(np.ones((n, n), bool), padding)
    steps = []
    for (depth, row, column), value in np.ndenumerate(output):
        top, left = row * stride, column * stride
        part = np.s_[top : top + k, left : left + k]
        if kernels is None:  # padding never wins, and does not count in a mean
            lines = _pooling_lines(window.operation, padded[depth][part][real[part]], value)
        else:
            lines = _convolution_lines(padded[:, *part], kernels[depth], value)
        covered = tuple((top + i, left + j) for i, j in np.ndindex(k, k))
        steps.append(Step((depth, row, column), covered, lines))
    padding_cells = frozenset((int(i), int(j)) for i, j in np.argwhere(~real))
    plus = f" + {before} + {after}" if any(padding) else ""
    formula = f"floor(({n}{plus} - {k}) / {stride}) + 1 = {_size(window)}"
    return Slide(window, image, kernels, output, formula, padded, padding_cells, tuple(steps))


def check_window(window: Window, seed: int) -> None:
    """Refuses settings that nobody can compute, read or watch; the layers refuse the rest.

    Raises:
      ValueError: with the given value and the limit.
    """
    check_choice("operation", window.operation, ("conv", "max", "avg"))
    for name, largest in MAX_SIZES.items():
        number = getattr(window, name)
        check_positive(name, number)
        if number > largest:
            raise ValueError(f"{name} is at most {largest} here, to be legible, not {number}.")
    check_positive("stride", window.stride)
    maps = window.filters
    if window.operation != "conv":
        maps = window.channels
        if window.filters > 1:
            raise ValueError(
                f"Pooling has no filters, and {window.filters} were given: leave --filters out."
            )
    numbers = range(MAX_PADDING + 1)
    if window.padding not in ("valid", "same", *numbers):
        raise ValueError(
            f"padding is valid, same or 0 to {numbers[-1]} zeros on each side here, not "
            f"{window.padding!r}."
        )
    if seed < 0:
        raise ValueError(f"seed must be 0 or a positive integer, not {seed}.")
    steps = maps * _size(window) ** 2
    if steps > MAX_STEPS:
        raise ValueError(
            f"{steps} outputs are too many to watch, at most {MAX_STEPS}: take a smaller input, "
            "less padding, a larger stride, or fewer filters or channels."
        )


def _size(window: Window) -> int:
    return output_size(window.input_size, window.kernel, window.stride or 1, window.padding)


def _output(window: Window, image: np.ndarray, kernels: np.ndarray | None) -> np.ndarray:
    images: Any = jnp.asarray(image.transpose(1, 2, 0)[None], jnp.float32)
    options: Any = {"strides": window.stride, "padding": window.padding}
    if kernels is None:
        pool = max_pool if window.operation == "max" else avg_pool
        output = pool(images, window.kernel, **options)
    else:
        kernel: Any = jnp.asarray(kernels.transpose(2, 3, 1, 0), jnp.float32)
        output = conv(images, kernel, **options)
    output = np.asarray(output)[0].transpose(2, 0, 1)
    return output if window.operation == "avg" else output.astype(int)


def _convolution_lines(patch: np.ndarray, kernel: np.ndarray, value: int) -> tuple[str, ...]:
    """One line of products; or one for each channel, and a last one with their sums."""
    pairs = [zip(x.flat, w.flat, strict=True) for x, w in zip(patch, kernel, strict=True)]
    products = [" + ".join(f"{x}·{w}" for x, w in pair) for pair in pairs]
    if len(products) == 1:
        return (f"{products[0]} = {value}",)
    sums = [str(total) for total in (patch * kernel).sum(axis=(1, 2))]
    lines = [
        f"channel {i}: {p} = {s}" for i, (p, s) in enumerate(zip(products, sums, strict=True), 1)
    ]
    return (*lines, f"their sum: {' + '.join(sums)} = {value}")


def _pooling_lines(operation: str, numbers: np.ndarray, value: Any) -> tuple[str, ...]:
    listed = [str(x) for x in numbers]
    if operation == "max":
        return (f"max({', '.join(listed)}) = {value}",)
    rounded = f"{value:.4g}"
    equals = "=" if float(rounded) == value else "≈"
    return (f"({' + '.join(listed)}) / {len(listed)} {equals} {rounded}",)
