"""Padding (notebooks 000, 001, 002): how do zeros at the border change shapes and accuracy?

    python experiments/lessons/padding.py

000 sets the exercise "modify valid to same and see what happens". This happens in `strided`:

- sizes go 28, 14, 7, 4 instead of 28, 13, 6, 2, and parameters from 40,394 to 89,546: the first
  dense layer receives 1,024 features instead of 256;
- `valid` leaves pixels out: the last convolution sees 23 of 28 rows and columns. Its outputs do not
  depend on the last five of each, together 255 of 784 pixels. Digits lie in the middle, so that
  this costs little;
- test accuracy does not change by anything that ten seeds could show (p = 0.13).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments import compare
from experiments.lessons import lesson
from experiments.lessons.grids import draw_grid
from jaxconv.inspection import conv_params, dense_params, output_size
from jaxconv.models import conv
from jaxconv.runs import cli

FILTERS, KERNEL, STRIDE, IMAGE = (16, 32, 64), 3, 2, 28  # those of `strided`
PADDINGS = ("valid", "same")


@dataclasses.dataclass(frozen=True)
class Config(lesson.Config):
    """The lesson's settings."""

    seeds: str = "10"
    """The seeds on which both paddings are trained: how many, or a list, 3,7,11."""


def main(config: Config) -> dict[str, Any]:
    with lesson.lesson_folder("padding", config) as folder:
        result: dict[str, Any] = {}
        for padding in PADDINGS:
            result |= {f"{padding}_{name}": x for name, x in shapes(padding).items()}
            sizes = " → ".join(map(str, result[f"{padding}_sizes"]))
            print(f"{padding}: {sizes}, {result[f'{padding}_params']:,} parameters")
        seen = {padding: times_used(padding) for padding in PADDINGS}
        for padding, times in seen.items():
            result[f"{padding}_pixels_unseen"] = int((times == 0).sum())
            print(f"{padding}: no output sees {result[f'{padding}_pixels_unseen']} of 784 pixels")
        output_002 = convolved_002()
        result["notebook_002_first_row"] = output_002[0].tolist()
        print(f"Notebook 002's figure:\n{output_002}")
        comparison = compare.main(
            "strided",
            "strided --padding same",
            seeds=config.seeds,
            output_dir=str(folder / "comparison"),
            overwrite=config.overwrite,
        )
        result |= comparison

        def draw(figure: Any) -> None:
            upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.25))
            left, middle, right = upper.subplots(1, 3, width_ratios=(5, 2, 4))
            padded = np.pad(np.arange(9).reshape(3, 3), 1)
            border = {(i, j) for i in range(5) for j in range(5) if {i, j} & {0, 4}}
            first = {(0, 0), (0, 1), (1, 0), (1, 1)}
            draw_grid(left, padded, title="002: padded", marked=first, padding=border)
            every = {(i, j) for i in range(2) for j in range(2)}
            draw_grid(middle, np.arange(4).reshape(2, 2), title="kernel", marked=every)
            draw_grid(right, output_002, title="output", marked={(0, 0)})
            panels = lower.subplots(1, 4)
            top = max(times.max() for times in seen.values())
            for axes, (padding, times) in zip(panels, seen.items(), strict=False):
                axes.imshow(np.where(times == 0, np.nan, times), vmin=0, vmax=top, cmap="YlGnBu")
                unseen = result[f"{padding}_pixels_unseen"]
                title = f"{padding}: how often strided\nuses a pixel ({unseen} never, white)"
                axes.set_title(title, fontsize=9)
                axes.set(xticks=(0, 27), yticks=(0, 27))
            share = border_effect()
            panels[2].imshow(share, vmin=0, vmax=1, cmap="gray")
            title = f"a white 7×7 image's mean over\n3×3, same: {share[0, 0]:.2f} in the corner"
            panels[2].set_title(title, fontsize=9)
            panels[2].set(xticks=(), yticks=())
            lesson.draw_accuracies(panels[3], comparison, PADDINGS)

        return lesson.finish(folder, result, draw, figsize=(11, 6))


def shapes(padding: str) -> dict[str, Any]:
    """Computes the sizes and the parameters of strided by the formulas of 000."""
    sizes, channels, params = [IMAGE], 1, 0
    for filters in FILTERS:
        sizes.append(output_size(sizes[-1], KERNEL, STRIDE, padding))
        params += conv_params((KERNEL, KERNEL), channels, filters)
        channels = filters
    params += dense_params(sizes[-1] ** 2 * channels, 64) + dense_params(64, 10)
    return {"sizes": sizes, "params": params}


def times_used(padding: str) -> Float[np.ndarray, "height width"]:
    """Counts the ways that lead from each pixel to the last convolution's outputs.

    The count is the gradient of the outputs' sum if all weights are one.
    """

    def total(image: jax.Array) -> jax.Array:
        for _ in FILTERS:
            kernel = jnp.ones((KERNEL, KERNEL, 1, 1))
            image = conv(image, kernel, strides=STRIDE, padding=padding)
        return image.sum()

    return np.asarray(jax.grad(total)(jnp.ones((1, IMAGE, IMAGE, 1)))[0, :, :, 0])


def convolved_002() -> Float[np.ndarray, "height width"]:
    """Computes 002's figure: 3×3 numbers, padded by one, under a kernel of 2×2."""
    image = jnp.arange(9.0).reshape(1, 3, 3, 1)
    kernel = jnp.arange(4.0).reshape(2, 2, 1, 1)
    return np.asarray(conv(image, kernel, padding=1)[0, :, :, 0])


def border_effect() -> Float[np.ndarray, "height width"]:
    """Averages 3×3 cells of an image that is one everywhere and is padded with zeros."""
    kernel = jnp.full((3, 3, 1, 1), 1 / 9)
    return np.asarray(conv(jnp.ones((1, 7, 7, 1)), kernel, padding="same")[0, :, :, 0])


if __name__ == "__main__":
    cli(Config, main, __doc__)
