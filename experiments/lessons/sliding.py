"""The steps of a sliding window over small integers, with each output's arithmetic written out.

Nothing is drawn here: `python experiments/lessons/animate.py` does. Arrays are in the order in
which they are drawn: `[channel, row, column]`, and kernels `[filter, channel, row, column]`.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxconv._checks import check_choice, check_positive
from jaxconv.inspection.arithmetic import explicit_padding, output_size
from jaxconv.models.ops import avg_pool, conv, max_pool

LEGIBLE = {"input_size": 12, "kernel": 5, "channels": 3, "filters": 4}  # the most of each
MAX_PADDING, MAX_STEPS = 4, 150


@dataclasses.dataclass(frozen=True)
class Window:
    """The settings of a sliding window, the same for height and width."""

    input_size: int = 5
    kernel: int = 3
    stride: int | None = None  # 1, and the kernel for pooling
    padding: int | str = "valid"
    channels: int = 1
    filters: int = 1
    operation: str = "conv"


class Step(NamedTuple):
    """One output and what it is made of."""

    cell: tuple[int, int, int]
    """In the output: filter (for pooling, channel), row, column."""
    window: tuple[tuple[int, int], ...]
    """The window's cells (row, column) in the padded input."""
    lines: tuple[str, ...]
    """The arithmetic."""


class Slide(NamedTuple):
    """All numbers of a slide, and its steps in the order of the output's cells."""

    window: Window
    image: np.ndarray
    kernel: np.ndarray | None
    output: np.ndarray
    formula: str
    padded: np.ndarray
    added: frozenset[tuple[int, int]]
    """The cells of `padded` that are not the image's."""
    steps: tuple[Step, ...]


def slide(window: Window, seed: int = 0) -> Slide:
    """Slides a window over random integers: the outputs are those of `jaxconv.models.conv`.

    Args:
      window: the settings.
      seed: of the numbers: 0 to 3 in a convolution's input and 0 to 2 in its kernels, so that
        products stay short; 0 to 9 for pooling.

    Raises:
      ValueError: if a setting is malformed, the window does not fit, or there is too much to read.

    Example:
      >>> steps = slide(Window(input_size=4, kernel=2, operation="max")).steps
      >>> len(steps), steps[0].lines
      (4, ('max(8, 6, 3, 0) = 8',))
    """
    pooled = window.operation != "conv"
    if window.stride is None:
        window = dataclasses.replace(window, stride=window.kernel if pooled else 1)
    check(window, seed)
    n, k, stride = window.input_size, window.kernel, window.stride or 1
    random = np.random.default_rng(seed)
    image = random.integers(0, 10 if pooled else 4, (window.channels, n, n))
    kernel = None if pooled else random.integers(0, 3, (window.filters, window.channels, k, k))
    output = _output(window, image, kernel)
    zeros = explicit_padding(n, k, stride, window.padding)
    padded = np.pad(image, ((0, 0), zeros, zeros))
    real = np.pad(np.ones((n, n), bool), zeros)
    steps = []
    for (first, row, column), value in np.ndenumerate(output):
        top, left = row * stride, column * stride
        part = np.s_[top : top + k, left : left + k]
        if kernel is None:  # padding never wins, and is not counted
            lines = _pooling(window.operation, padded[first][part][real[part]], value)
        else:
            lines = _convolution(padded[:, *part], kernel[first], value)
        covered = tuple((top + i, left + j) for i, j in np.ndindex(k, k))
        steps.append(Step((first, row, column), covered, lines))
    added = frozenset((int(i), int(j)) for i, j in np.argwhere(~real))
    plus = f" + {zeros[0]} + {zeros[1]}" if any(zeros) else ""
    formula = f"floor(({n}{plus} - {k}) / {stride}) + 1 = {_size(window)}"
    return Slide(window, image, kernel, output, formula, padded, added, tuple(steps))


def check(window: Window, seed: int) -> None:
    """Refuses what cannot be computed, read or watched; the layers themselves refuse the rest.

    Raises:
      ValueError: with what was given, and the limit.
    """
    check_choice("operation", window.operation, ("conv", "max", "avg"))
    for name, most in LEGIBLE.items():
        number = getattr(window, name)
        check_positive(name, number)
        if number > most:
            raise ValueError(f"{name} is at most {most} here, to be legible, not {number}.")
    check_positive("stride", window.stride)
    maps = window.filters
    if window.operation != "conv":
        maps = window.channels
        if window.filters > 1:
            raise ValueError(
                f"Pooling has no filters, and {window.filters} were given: leave --filters out."
            )
    zeros = window.padding
    numbers = range(MAX_PADDING + 1)
    if zeros not in ("valid", "same", *numbers):
        raise ValueError(
            f"padding is valid, same or 0 to {numbers[-1]} zeros on each side here, not {zeros!r}."
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


def _output(window: Window, image: np.ndarray, kernel: np.ndarray | None) -> np.ndarray:
    images: Any = jnp.asarray(image.transpose(1, 2, 0)[None], jnp.float32)
    options: Any = {"strides": window.stride, "padding": window.padding}
    if kernel is None:
        pool = max_pool if window.operation == "max" else avg_pool
        output = pool(images, window.kernel, **options)
    else:
        weights: Any = jnp.asarray(kernel.transpose(2, 3, 1, 0), jnp.float32)
        output = conv(images, weights, **options)
    output = np.asarray(output)[0].transpose(2, 0, 1)
    return output if window.operation == "avg" else output.astype(int)


def _convolution(patch: np.ndarray, kernel: np.ndarray, value: int) -> tuple[str, ...]:
    """The products in one line, or in one for each channel and a last one of their sums."""
    pairs = [zip(x.flat, w.flat, strict=True) for x, w in zip(patch, kernel, strict=True)]
    products = [" + ".join(f"{x}·{w}" for x, w in pair) for pair in pairs]
    if len(products) == 1:
        return (f"{products[0]} = {value}",)
    sums = [str(total) for total in (patch * kernel).sum(axis=(1, 2))]
    lines = [
        f"channel {i}: {p} = {s}" for i, (p, s) in enumerate(zip(products, sums, strict=True), 1)
    ]
    return (*lines, f"their sum: {' + '.join(sums)} = {value}")


def _pooling(operation: str, numbers: np.ndarray, value: Any) -> tuple[str, ...]:
    listed = [str(x) for x in numbers]
    if operation == "max":
        return (f"max({', '.join(listed)}) = {value}",)
    rounded = f"{value:.4g}"
    equals = "=" if float(rounded) == value else "≈"
    return (f"({' + '.join(listed)}) / {len(listed)} {equals} {rounded}",)
