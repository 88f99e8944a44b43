"""Convolution in one dimension (notebook 004): do its examples and its parameter counts hold?

    python experiments/lessons/conv1d.py

- `np.convolve` equals a convolutional layer on an image of height 1, once the kernel is flipped. A
  layer of any deep-learning library does not flip it, which makes it a cross-correlation: for 004's
  [1 2 5 4] and [6 2] it gives [10 22 38] instead of [14 34 34].
- 004's kernel [0.5 0.5 0.5] sums to 1.5 and is no average. The mean of three gives 2, 3, ... 8.
- 004 states that `same` adds m-1 zeros at the left. In fact it centres: one zero on each side, and
  the first output is 1.5, the last 8.5. Two zeros at the left would give 0.5 first and 12 last. If
  m is even, NumPy puts the odd zero at the left, but Keras at the right. `full` adds m-1 zeros on
  both sides, as 004 states.
- A mean of w numbers divides the deviation of independent noise by √w: w = 9 takes 0.394 to 0.134
  (theory: 0.131), and leaves 0.998 of the amplitude of a sine with period 250.
- 30 dense units have 23,550 parameters on 28×28 images and 23,592,990 on 512×512 ones in colour; 30
  filters of 3×3 have 300 and 840, whatever the size.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from experiments.lessons import lesson
from experiments.lessons.grids import INK, draw_grid
from jaxconv._checks import check_choice
from jaxconv.inspection import conv_params, dense_params
from jaxconv.models import conv
from jaxconv.runs import cli

INPUT, KERNEL = np.arange(1, 10), np.full(3, 0.5)  # 004's first example
X, H = np.array([6, 2]), np.array([1, 2, 5, 4])  # 004's second example
MODES = ("full", "same", "valid")
UNITS = FILTERS = 30
IMAGES = ((28, 1), (32, 3), (64, 3), (128, 3), (224, 3), (512, 3))  # size, channels
SAMPLES, PERIOD, NOISE = 1000, 250, 0.4  # those of the noisy sine


@dataclasses.dataclass(frozen=True)
class Config(lesson.Config):
    """The lesson's settings."""

    width: int = 9
    """The samples of the moving average, 1 to 100."""
    seed: int = 0
    """The seed of the noise."""


def main(config: Config) -> dict[str, Any]:
    if not 1 <= config.width <= 100:
        raise ValueError(f"width is 1 to 100, so that a sine is left, not {config.width}.")
    with lesson.lesson_folder("conv1d", config) as folder:
        result: dict[str, Any] = {
            "pair_averages": convolve(INPUT, [0.5, 0.5], "valid").tolist(),
            "even_same": convolve(INPUT, [0.5, 0.5], "same").tolist(),
            "kernel_004_sum": float(KERNEL.sum()),
            "same_004": convolve(INPUT, KERNEL, "same").tolist(),
            "padded_left_004": cross_correlate(INPUT, KERNEL, (len(KERNEL) - 1, 0)).tolist(),
            "mean_of_three": convolve(INPUT, np.full(3, 1 / 3), "valid").tolist(),
        }
        for mode in MODES:
            result[f"{mode}_of_h_and_x"] = convolve(H, X, mode).astype(int).tolist()
        result["layer_of_h_and_x"] = cross_correlate(H, X).astype(int).tolist()
        for name, value in result.items():
            print(f"{name}: {np.asarray(value)}")
        curves = moving_average(config.width, config.seed)
        before, after = (float(curves[name].std()) for name in ("noise", "noise_averaged"))
        expected = before / config.width**0.5
        result |= {"noise_before": before, "noise_after": after, "noise_expected": expected}
        result["sine_amplitude_after"] = float(np.abs(curves["sine_averaged"]).max())
        print(
            f"Mean of {config.width}: noise {before:.3f} becomes {after:.3f} (theory: "
            f"{expected:.3f}); the sine's amplitude 1 becomes {result['sine_amplitude_after']:.3f}"
        )
        result |= parameter_counts()
        for counts in zip(*(result[name] for name in parameter_counts()), strict=True):
            print("{}: dense {:,} parameters, convolution {:,}".format(*counts))

        def draw(figure: Any) -> None:
            upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.1))
            draw_rows(upper, result)
            left, right = lower.subplots(1, 2, width_ratios=(1.6, 1))
            draw_average(left, curves, config.width)
            draw_parameters(right, result)
            for axes in (left, right):
                axes.tick_params(labelsize=8)
                axes.spines[["top", "right"]].set_visible(False)

        return lesson.finish(folder, result, draw, figsize=(11, 7.5))


def convolve(
    signal: npt.ArrayLike, kernel: npt.ArrayLike, mode: str = "full"
) -> Float[np.ndarray, " outputs"]:
    """Computes `np.convolve` by a convolutional layer: the shorter line slides, flipped.

    Args:
      signal: a line of numbers.
      kernel: another one; either of the two may be the longer one.
      mode: `full`, `same` (as long as the longer line) or `valid`.

    Raises:
      ValueError: if a line is empty or has several axes, or the mode is unknown.

    Example:
      >>> convolve([1, 2, 5, 4], [6, 2], "valid").tolist()
      [14.0, 34.0, 34.0]
    """
    check_choice("mode", mode, MODES)
    signal, kernel = np.asarray(signal), np.asarray(kernel)
    for name, line in (("signal", signal), ("kernel", kernel)):
        if line.ndim != 1 or not len(line):
            raise ValueError(f"{name} is a line of one number or more, not of shape {line.shape}.")
    if len(kernel) > len(signal):
        signal, kernel = kernel, signal
    n = len(kernel)
    padding = {"full": (n - 1, n - 1), "same": (n // 2, (n - 1) // 2), "valid": (0, 0)}
    return cross_correlate(signal, kernel[::-1], padding[mode])


def cross_correlate(
    signal: npt.ArrayLike, kernel: npt.ArrayLike, padding: tuple[int, int] = (0, 0)
) -> Float[np.ndarray, " outputs"]:
    """Slides a kernel over a line without the flip, by a convolutional layer.

    Args:
      signal: a line of numbers, to the layer an image of height 1.
      kernel: a line that is not longer than the padded signal.
      padding: the number of zeros at the left and at the right.
    """
    image = jnp.asarray(signal, jnp.float32).reshape(1, 1, -1, 1)
    weights = jnp.asarray(kernel, jnp.float32).reshape(1, -1, 1, 1)
    return np.asarray(conv(image, weights, padding=((0, 0), padding))[0, 0, :, 0])


def moving_average(width: int, seed: int) -> dict[str, Float[np.ndarray, " samples"]]:
    """Makes a sine and noise, and averages each; their averages add up to that of their sum."""
    noise = np.asarray(NOISE * jax.random.normal(jax.random.key(seed), (SAMPLES,)))
    curves = {"sine": np.sin(2 * np.pi * np.arange(SAMPLES) / PERIOD), "noise": noise}
    kernel = np.full(width, 1 / width)
    return curves | {f"{name}_averaged": convolve(y, kernel, "valid") for name, y in curves.items()}


def parameter_counts() -> dict[str, Any]:
    """Counts the parameters of a dense layer and a 3×3 convolution on images of several sizes."""
    return {
        "images": [f"{size}×{size}×{channels}" for size, channels in IMAGES],
        "dense_params": [dense_params(size**2 * channels, UNITS) for size, channels in IMAGES],
        "conv_params": [conv_params((3, 3), channels, FILTERS) for _, channels in IMAGES],
    }


def draw_rows(figure: Any, result: dict[str, Any]) -> None:
    """Draws inputs with their first window, and below each its output where the windows are."""
    window, output = [(0, 0), (0, 1), (0, 2)], [(0, 0)]
    left: list[Any] = [  # title, numbers, cells from the left, marked, padding
        ("004: kernel [0.5 0.5 0.5], same: a zero each side", np.pad(INPUT, 1), 0, window, (0, 10)),
        ("its output, centred (three halves are no average)", result["same_004"], 1, output),
        ("m-1 zeros at the left, as 004 states", np.pad(INPUT, (2, 0)), 0, window),
        ("its output, a step late", result["padded_left_004"], 2, output),
    ]
    right: list[Any] = [
        ("004: [1 2 5 4], full: m-1 zeros each side", np.pad(H, 1), 0, window[:2], (0, 5)),
        ("full convolution with [6 2]: 2·0 + 6·1, …", result["full_of_h_and_x"], 0.5, output),
        ("valid convolution: 2·1 + 6·2, …", result["valid_of_h_and_x"], 1.5),
        ("a layer (cross-correlation): 6·1 + 2·2, …", result["layer_of_h_and_x"], 1.5),
    ]
    panels = figure.subplots(4, 2, width_ratios=(11.1, 6.1))
    for column, rows, cells in ((0, left, 11), (1, right, 6)):
        for axes, (title, line, start, *grounds) in zip(panels[:, column], rows, strict=True):
            marked, *padding = grounds or [()]
            draw_grid(axes, np.asarray(line), marked=marked, padding=padding, fontsize=9)
            axes.set_xlim(-0.05 - start, cells + 0.05 - start)
            axes.set_title(title, fontsize=9)


def draw_average(axes: Any, curves: dict[str, Any], width: int) -> None:
    """Draws the noisy sine, its moving average at the middle of each window, and the sine."""
    axes.plot(curves["sine"] + curves["noise"], ".", ms=2, color="#b9b9b9", label="noisy sine")
    averaged = curves["sine_averaged"] + curves["noise_averaged"]
    middles = np.arange(len(averaged)) + (width - 1) / 2
    axes.plot(middles, averaged, color="#0b6e99", lw=1.2, label=f"mean of {width}")
    axes.plot(curves["sine"], color="#c8553d", lw=1, ls="--", label="sine")
    before, after = curves["noise"].std(), curves["noise_averaged"].std()
    text = f"{before:.3f} → {after:.3f} (÷ √{width}: {before / width**0.5:.3f})"
    axes.set_title(f"moving average: the noise's deviation {text}", fontsize=9)
    axes.set_ylim(-2.2, 2.9)
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="upper center", markerscale=3)


def draw_parameters(axes: Any, result: dict[str, Any]) -> None:
    """Draws the parameters of both layers over the size of the image."""
    labels = {"dense": f"dense, {UNITS} units", "conv": f"convolution, {FILTERS} filters of 3×3"}
    for (name, label), color in zip(labels.items(), ("#c8553d", "#0b6e99"), strict=True):
        counts = result[f"{name}_params"]
        axes.semilogy(counts, "o-", ms=4, color=color, label=label)
        for place in (0, len(counts) - 1):
            style = {"ha": "center", "fontsize": 8, "color": INK, "textcoords": "offset points"}
            axes.annotate(f"{counts[place]:,}", (place, counts[place]), xytext=(0, 8), **style)
    axes.set(xticks=range(len(IMAGES)), xlim=(-0.6, len(IMAGES) - 0.3), ylim=(100, 1e9))
    axes.set_xticklabels([image.replace("×", "×\n", 1) for image in result["images"]])
    axes.set_title("parameters by image size", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="upper left")


if __name__ == "__main__":
    cli(Config, main, __doc__)
