"""Activations (notebooks 000, 002): which let gradients vanish, and do convolutions need one?

    python experiments/lessons/activations.py

- 002's vanishing gradient exists. A sigmoid's derivative is at most 0.25, at 0, so that a layer
  multiplies the norm of a gradient that passes backwards by at most 0.25·‖W‖₂. For 20
  glorot-uniform layers of 100 units this bound is 0.49 a layer. The lesson measures 0.23 a layer:
  a norm of 1e-1 at the last layer is 1e-13 at the first. A tanh layer keeps 0.94.
- 002 states that relu's derivative of 0 or 1 "prevents the gradient from vanishing". It has no
  factor of 0.25, but the kernels count as well, and half of the units pass nothing on. With
  glorot-uniform kernels a relu layer keeps 0.71 of the norm, about 1/√2. With He-normal kernels,
  made for relu, it keeps 0.99. With kernels three times the glorot-uniform ones it multiplies the
  norm by 2.15. Also, a unit that is 0 for all inputs gets no gradient. After an epoch of `dense` at
  learning rate 0.001 no unit of 512 is 0 for all test digits; at 0.03 there are 315 such units.
- 000 states that convolutions "already introduce non-linearity". They are linear: the three of
  `strided`, with 23,296 parameters, equal one of 15×15 and stride 8 with 14,464. Their outputs
  differ by 6e-6.
- With relu between them test accuracy is 0.9857 ± 0.0014 instead of 0.9737 ± 0.0017 (ten seeds,
  p = 2.7e-09). This saves 45.6% of the error.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxconv
from experiments import compare
from experiments.lessons import lesson
from experiments.lessons.gradients import (
    NETS,
    activation_curves,
    collapse,
    deep_gradients,
    factor_per_layer,
)
from experiments.lessons.grids import INK, draw_tiles
from jaxconv import Dataset, load_dataset
from jaxconv._checks import check_positive
from jaxconv.inspection import conv_params
from jaxconv.models import conv
from jaxconv.runs import cli

DENSE_RATE, DENSE_BATCH = 1e-3, 128  # the learning rate and batch size of `dense`
STRIDE, CONVOLUTIONS = 2, ("conv1", "conv2", "conv3")  # those of `strided`
COLORS = {"sigmoid": "#c8553d", "tanh": "#8a6fb0", "relu": "#0b6e99", "softmax": "#c28f0e"}
NORMS: dict[str, Any] = {  # a list of norms in the result: its line's style and label
    "tanh_norms": ({"marker": "o", "color": COLORS["tanh"]}, "tanh"),
    "relu_glorot_norms": ({"marker": "o", "color": COLORS["relu"]}, "relu"),
    "sigmoid_bound": ({"ls": "--", "color": INK}, "sigmoid's bound 0.25·‖W‖₂"),
    "sigmoid_norms": ({"marker": "o", "color": COLORS["sigmoid"]}, "sigmoid"),
}
RELU_NORMS: dict[str, Any] = {
    "relu_large_norms": ({"marker": "s", "color": "#c8553d"}, "3 × glorot-uniform"),
    "relu_he_norms": ({"marker": "^", "color": "#3a9d6e"}, "He-normal"),
    "relu_glorot_norms": ({"marker": "o", "color": COLORS["relu"]}, "glorot-uniform"),
}


@dataclasses.dataclass(frozen=True)
class Config(lesson.Config):
    """The lesson's settings."""

    seeds: str = "10"
    """The seeds on which strided is trained without and with relu: how many, or a list, 3,7,11."""
    seed: int = 0
    """The seed of all else: the deep nets' kernels, and the nets trained for one epoch."""
    depth: int = 20
    """How many hidden layers the nets have whose gradients are measured, 2 to 50."""
    width: int = 100
    """The units of each of these layers."""
    large_rate: float = 3e-2
    """A learning rate that kills relu units of dense; the usual one is 0.001."""


def main(config: Config) -> dict[str, Any]:
    check_positive("width", config.width)
    if not 2 <= config.depth <= 50:
        raise ValueError(
            f"depth must be 2 to 50, or float32 has no room for the norms, not {config.depth!r}."
        )
    with lesson.lesson_folder("activations", config) as folder:
        data = load_dataset("mnist")
        curves = activation_curves()
        result = measure_depth(curves, config, data)
        for name, rate in (("usual", DENSE_RATE), ("large", config.large_rate)):
            result |= {f"{name}_{key}": x for key, x in dead_units(rate, config.seed, data).items()}
            share, accuracy = result[f"{name}_dead_share"], result[f"{name}_accuracy"]
            print(f"dense at {rate}: {share:.1%} of 512 units are dead, accuracy {accuracy:.4f}")
        collapsed, kernel = collapsed_strided(config.seed, data)
        result |= collapsed
        print(
            f"strided's three convolutions ({result['params_before']:,} parameters) equal one with "
            f"{result['params_collapsed']:,}: outputs differ by {result['largest_difference']:.1e}"
        )
        comparison = compare.main(
            "strided",
            "strided --activation relu",
            seeds=config.seeds,
            output_dir=str(folder / "comparison"),
            overwrite=config.overwrite,
        )
        result |= comparison

        def draw(figure: Any) -> None:
            upper, middle, lower = figure.subfigures(3, 1, height_ratios=(1, 1, 0.42))
            *both, right = upper.subplots(1, 3, width_ratios=(1, 1, 1.3))
            draw_curves(both, curves)
            draw_norms(right, result, NORMS, "gradient norms at initialisation (glorot-uniform)")
            left, centre, right = middle.subplots(1, 3, width_ratios=(1.3, 1, 1))
            draw_norms(left, result, RELU_NORMS, "the same for relu, by its kernels")
            draw_dead(centre, result, config.large_rate)
            lesson.draw_accuracies(right, comparison, ("linear", "relu"))
            draw_kernels(lower.subplots(), kernel, result)

        return lesson.finish(folder, result, draw, figsize=(11, 9))


def measure_depth(curves: dict[str, Any], config: Config, data: Dataset) -> dict[str, Any]:
    """Measures sigmoid's largest derivative, and gradients through deep nets on 128 digits."""
    x, (_, derivatives) = curves["sigmoid"]
    result: dict[str, Any] = {
        "sigmoid_largest_derivative": float(derivatives.max()),
        "sigmoid_largest_derivative_at": float(x[derivatives.argmax()]),
    }
    print("Largest derivative of sigmoid: {} at {}".format(*result.values()))
    image, label = data.train.image[:128], data.train.label[:128]
    x = image.reshape(len(image), -1).astype(np.float32) / 255
    result |= deep_gradients(config.seed, config.depth, config.width, x, label, data.num_classes)
    for name in NETS:
        print(f"{name}: a layer multiplies gradients by {result[f'{name}_factor']:.3f}")
    print(f"Largest share of sigmoid's bound: {result['sigmoid_largest_share_of_bound']:.2f}")
    return result


def train_one_epoch(
    net: jaxconv.Classifier, batch_size: int, seed: int, data: Dataset
) -> jaxconv.TrainState:
    """Trains a new state for one epoch."""
    state = net.init(jax.random.key(seed), data.input_shape)
    return jaxconv.fit(net, state, data.train, epochs=1, batch_size=batch_size)[0]


def dead_units(learning_rate: float, seed: int, data: Dataset) -> dict[str, float]:
    """The share of dense's relu units that no test digit activates after an epoch."""
    model = jaxconv.create_model("dense", data.num_classes)
    net = jaxconv.classifier(model, jaxconv.rmsprop(learning_rate))
    state = train_one_epoch(net, DENSE_BATCH, seed, data)
    active = jaxconv.feature_maps(model, state, data.test.image)["dense1"] > 0
    row = jaxconv.evaluate(net, state, data.test)
    return {"dead_share": float((~active.any(axis=0)).mean()), "accuracy": row["accuracy"]}


def collapsed_strided(seed: int, data: Dataset) -> tuple[dict[str, Any], np.ndarray]:
    """Collapses strided's convolutions after an epoch into one, and compares the outputs.

    Args:
      seed: that of the training.
      data: digits; the outputs are those of the first 1,000 test digits.

    Returns:
      The sizes and the largest difference, and the one kernel `[height, width, channels, filters]`.
    """
    model = jaxconv.create_model("strided", data.num_classes)
    state = train_one_epoch(jaxconv.classifier(model, jaxconv.adam()), 32, seed, data)
    layers = [(state.params[name]["kernel"], state.params[name]["bias"]) for name in CONVOLUTIONS]
    kernel, bias, stride = collapse(layers, STRIDE)
    image = data.test.image[:1000]
    three = jaxconv.feature_maps(model, state, image)["conv3"]
    scaled, single = (jnp.asarray(x, jnp.float32) for x in (image / 255, kernel))
    one = conv(scaled, single, strides=stride) + jnp.asarray(bias, jnp.float32)
    result = {
        "collapsed_kernel_shape": list(kernel.shape),
        "collapsed_stride": stride,
        "params_before": sum(x.size for layer in layers for x in layer),
        "params_collapsed": conv_params(kernel.shape[:2], *kernel.shape[2:]),
        "largest_difference": float(jnp.abs(three - one).max()),
        "largest_output": float(jnp.abs(three).max()),
    }
    return result, kernel


def draw_curves(panels: Any, curves: dict[str, Any]) -> None:
    """Draws the activations on one panel, and their derivatives on the other."""
    for i, axes in enumerate(panels):
        for name, (x, pair) in curves.items():
            axes.plot(x, pair[i], color=COLORS[name], lw=1.5, label=name)
    panels[0].set_ylim(-1.2, 2.4)
    panels[1].axhline(0.25, color=INK, lw=0.8, ls=":")
    panels[1].set_yticks((0, 0.25, 0.5, 1))
    finish_axes(panels[0], "activations (softmax of (x, 0, 0))", legend=True)
    finish_axes(panels[1], "their derivatives (sigmoid's: at most 0.25)")


def draw_norms(axes: Any, result: dict[str, Any], lines: dict[str, Any], title: str) -> None:
    """Draws gradient norms over the layers, one line for each entry of `lines`."""
    from matplotlib.ticker import MaxNLocator

    for key, (style, label) in lines.items():
        norms = result[key]
        label = f"{label}: × {factor_per_layer(np.asarray(norms)):.2f} a layer"
        axes.semilogy(range(1, len(norms) + 1), norms, ms=3, lw=1, label=label, **style)
    axes.set_xlabel("layer", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    finish_axes(axes, title, legend=True)


def draw_dead(axes: Any, result: dict[str, Any], large_rate: float) -> None:
    """Draws the share of dead units at both learning rates as bars."""
    for x, name in enumerate(("usual", "large")):
        share, accuracy = result[f"{name}_dead_share"], result[f"{name}_accuracy"]
        axes.bar(x, share, 0.6, color=COLORS["relu"], alpha=0.8)
        text = f"{share:.1%} dead\naccuracy {accuracy:.1%}"
        axes.annotate(text, (x, share), ha="center", va="bottom", fontsize=8)
    axes.set(ylim=(0, 1), xlim=(-0.6, 1.6), xticks=(0, 1), yticks=())
    axes.set_xticklabels((f"rate {DENSE_RATE}", f"rate {large_rate}"))
    finish_axes(axes, "dense's relu units after an epoch")


def draw_kernels(axes: Any, kernel: np.ndarray, result: dict[str, Any]) -> None:
    """Draws the first ten filters of the collapsed kernel: red adds, blue subtracts."""
    size, stride = kernel.shape[0], result["collapsed_stride"]
    title = (
        f"strided's three linear convolutions are one of {size}×{size}, stride {stride}: its first "
        f"10 kernels (outputs differ by {result['largest_difference']:.0e})"
    )
    tiles = kernel[..., 0, :10].transpose(2, 0, 1)
    tiles = tiles / np.abs(tiles).max(axis=(1, 2), keepdims=True)
    draw_tiles(axes, tiles, columns=10, title=title, signed=True)


def finish_axes(axes: Any, title: str, *, legend: bool = False) -> None:
    """Gives a panel its title, small ticks, no frame at the top and right, and its legend."""
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        axes.legend(fontsize=7.5, frameon=False)


if __name__ == "__main__":
    cli(Config, main, __doc__)
