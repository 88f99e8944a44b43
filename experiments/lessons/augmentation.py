"""Augmentation: what do random shifts, turns and deformations do to a digit?

    python experiments/lessons/augmentation.py

The lesson draws eight digits under each augmentation of `jaxconv.data`, and measures on the 10,000
test digits how much of their ink each one leaves:

- a shift leaves all of it: it cuts no digit;
- turned and leaning digits keep it as well, since MNIST's margin is wide enough for 15°;
- a zoom of 0.2 and an elastic deformation of 1 pixel lose 0.1% and 0.2%;
- a square of 6×6, which is 4.6% of the image, takes 6.7% of the ink: digits stand in the middle.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from experiments.lessons import lesson
from experiments.lessons.grids import draw_tiles
from jaxconv import load_dataset
from jaxconv.data import Augment, compose, erase, warp
from jaxconv.runs import cli

AUGMENTATIONS: dict[str, Augment | None] = {
    "as it is": None,
    "shift 1": warp(shift=1.0),
    "rotation 15°": warp(rotation=15.0),
    "zoom 0.2": warp(zoom=0.2),
    "shear 15°": warp(shear=15.0),
    "elastic 1": warp(elastic=1.0),
    "erase 6": erase(6),
    "all": compose(warp(shift=1.0, rotation=15.0, zoom=0.2, shear=15.0, elastic=1.0), erase(6)),
}
DRAWN = 8


def main(config: lesson.Config) -> dict[str, Any]:
    with lesson.lesson_folder("augmentation", config) as folder:
        image = load_dataset("mnist").test.image
        changed = {name: augmented(x, image) for name, x in AUGMENTATIONS.items()}
        before = ink(image)
        result = {name: float((ink(x) / before).mean()) for name, x in changed.items()}
        for name, share in result.items():
            print(f"{name}: {share:.4f} of the ink")

        def draw(figure: Any) -> None:
            for axes, (name, x) in zip(figure.subplots(4, 2).ravel(), changed.items(), strict=True):
                draw_tiles(axes, x[:DRAWN, :, :, 0], columns=DRAWN, title=name)

        return lesson.finish(folder, {"ink": result}, draw, figsize=(9, 3.6))


def augmented(augment: Augment | None, image: Shaped[np.ndarray, "n h w 1"]) -> np.ndarray:
    """The images under an augmentation, with the keys of seed 0."""
    if augment is None:
        return image
    keys = jax.random.split(jax.random.key(0), len(image))
    return np.asarray(jax.jit(augment)(keys, jnp.asarray(image)))


def ink(image: np.ndarray) -> np.ndarray:
    """The sum of each image's pixels."""
    return image.sum(axis=(1, 2, 3), dtype=np.float64)


if __name__ == "__main__":
    cli(lesson.Config, main, __doc__)
