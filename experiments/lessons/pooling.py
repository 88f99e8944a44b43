"""Pooling (notebook 001): how do max and average pooling change digits, and are they invariant?

    python experiments/lessons/pooling.py

The lesson reproduces the three examples of 001's section 6.3 to the digit. On the 10,000 test
digits, with windows of 2×2:

- each pooling leaves a quarter of the coefficients: 784, 196, 49;
- averages keep the mean brightness, 0.1325, to rounding (1e-8); maxima raise it to 0.1972, and a
  second time to 0.3207: strokes grow and gaps close;
- neither is invariant to a shift by one pixel to the right. The shift changes the image by 0.0650
  on average, its maxima by 0.999 times as much (pooled twice: 0.973), its averages by 0.913
  (0.644);
- but maxima are brighter. Scaled to the image's brightness, they change by 0.672 (0.402) times as
  much as the image, and averages by the same 0.913 (0.644). The scale that the next layer sees
  decides which pooling is steadier.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from experiments.lessons import lesson
from experiments.lessons.grids import INK, draw_grid
from jaxconv import load_dataset
from jaxconv.models import avg_pool, max_pool
from jaxconv.runs import cli

Images = Float[np.ndarray, "samples height width channels"]
POOLS: dict[str, Callable[..., jax.Array]] = {"max": max_pool, "avg": avg_pool}
EXAMPLES: dict[str, Any] = {  # those of 001: input, strides, padding
    "strides 1, valid": (np.arange(1, 10).reshape(3, 3), 1, "valid"),
    "strides 2, valid": (np.arange(1, 13).reshape(3, 4), 2, "valid"),
    "strides 1, same": (np.arange(1, 10).reshape(3, 3), 1, "same"),
}
TITLES = {
    "image": "image",
    "max": "max",
    "max_twice": "max twice",
    "avg": "avg",
    "avg_twice": "avg twice",
}
COLORS = {"image": "#8c8c8c", "max": "#c8553d", "avg": "#0b6e99"}
BARS = {
    "brightness": "mean brightness",
    "shift_ratio": "change by a shift, ÷ the image's",
    "shift_ratio_at_equal_brightness": "the same at equal brightness",
}


def main(config: lesson.Config) -> dict[str, Any]:
    with lesson.lesson_folder("pooling", config) as folder:
        result: dict[str, Any] = {}
        for number, (title, example) in enumerate(EXAMPLES.items(), 1):
            for name in POOLS:
                pooled = pooled_example(name, *example)
                result[f"example_{number}_{name}"] = pooled.tolist()
                print(f"001, {title}, {name}:\n{pooled}")
        image = load_dataset("mnist").test.image.astype(np.float32) / 255
        maps = pooled_maps(image)
        result |= map_statistics(maps, pooled_maps(shifted(image)))
        for name, title in TITLES.items():
            counts = f"{title}: {result[f'{name}_coefficients']} coefficients"
            print(", ".join([counts, *(f"{x} {result[f'{name}_{x}']:.4f}" for x in BARS)]))
        rounding = max(result["avg_mean_difference"], result["avg_twice_mean_difference"])
        print(f"Averages keep a digit's mean brightness to {rounding:.0e}")

        def draw(figure: Any) -> None:
            upper, middle, lower = figure.subfigures(3, 1, height_ratios=(0.72, 1, 0.9))
            draw_examples(upper)
            for axes, (name, title) in zip(middle.subplots(1, 5), TITLES.items(), strict=True):
                axes.imshow(maps[name][0, :, :, 0], vmin=0, vmax=1, cmap="gray")
                size = maps[name].shape[1]
                axes.set_title(f"{title}, {size}×{size}", fontsize=9)
                axes.set(xticks=(), yticks=())
            for axes, (key, title) in zip(lower.subplots(1, 3), BARS.items(), strict=True):
                draw_bars(axes, {name: result[f"{name}_{key}"] for name in TITLES})
                axes.set_title(title, fontsize=9)

        return lesson.finish(folder, result, draw, figsize=(11, 7.5))


def pooled_example(
    pool: str, matrix: Num[np.ndarray, "height width"], strides: int, padding: str
) -> Float[np.ndarray, "rows columns"]:
    """Pools a matrix in windows of 2×2, by `max` or `avg`."""
    image = jnp.asarray(matrix, jnp.float32)[None, :, :, None]
    return np.asarray(POOLS[pool](image, 2, strides=strides, padding=padding)[0, :, :, 0])


def pooled_maps(image: Images) -> dict[str, Images]:
    """Maps each of `TITLES` to images: themselves, pooled, and pooled twice."""
    maps = {"image": image}
    for name, pool in POOLS.items():
        once = pool(jnp.asarray(image))
        maps |= {name: np.asarray(once), f"{name}_twice": np.asarray(pool(once))}
    return maps


def shifted(image: Images) -> Images:
    """Shifts images by one pixel to the right; the first column is black."""
    return np.pad(image, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]


def map_statistics(maps: dict[str, Images], after: dict[str, Images]) -> dict[str, Any]:
    """Measures each map's size, its brightness, and its change by a shift, over all samples.

    Args:
      maps: those of `pooled_maps`.
      after: those of the shifted images.
    """
    result: dict[str, Any] = {}
    means = {name: x.mean(axis=(1, 2, 3), dtype=np.float64) for name, x in maps.items()}
    for name, pooled in maps.items():
        change = float(np.abs(after[name] - pooled).mean(dtype=np.float64))
        result[f"{name}_coefficients"] = pooled[0].size
        result[f"{name}_brightness"] = brightness = float(means[name].mean())
        result[f"{name}_mean_difference"] = float(np.abs(means[name] - means["image"]).max())
        result[f"{name}_change_by_shift"] = change
        result[f"{name}_shift_ratio"] = ratio = change / result["image_change_by_shift"]
        at_equal = ratio * result["image_brightness"] / brightness
        result[f"{name}_shift_ratio_at_equal_brightness"] = at_equal
    return result


def draw_examples(figure: Any) -> None:
    """Draws 001's examples, and marks the first window and the outputs that it gives."""
    widths = [[x.shape[1], 2 + (p == "same"), 2 + (p == "same")] for x, _, p in EXAMPLES.values()]
    blocks = figure.subfigures(1, 3, width_ratios=[sum(width) + 1 for width in widths])
    window = {(0, 0), (0, 1), (1, 0), (1, 1)}
    for block, width, (title, example) in zip(blocks, widths, EXAMPLES.items(), strict=True):
        block.suptitle(f"001: {title}", fontsize=10)
        left, *outputs = block.subplots(1, 3, width_ratios=width)
        draw_grid(left, example[0], title="input", marked=window, fontsize=9)
        for axes, name in zip(outputs, POOLS, strict=True):
            pooled = pooled_example(name, *example)
            draw_grid(axes, pooled, title=name, marked={(0, 0)}, fontsize=9)


def draw_bars(axes: Any, values: dict[str, float]) -> None:
    """Draws a bar for each map."""
    for x, (name, value) in enumerate(values.items()):
        alpha = 0.55 if name.endswith("twice") else 0.9
        axes.bar(x, value, 0.7, color=COLORS[name.split("_")[0]], alpha=alpha)
        style = {"ha": "center", "va": "bottom", "fontsize": 8, "color": INK}
        axes.annotate(f"{value:.3f}", (x, value), **style)
    axes.set(xticks=range(len(values)), yticks=(), ylim=(0, 1.15 * max(values.values())))
    axes.set_xticklabels([TITLES[name].replace(" ", "\n") for name in values], fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)


if __name__ == "__main__":
    cli(lesson.Config, main, __doc__)
