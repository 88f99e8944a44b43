"""Features (notebook 001): what `lab6` learns to look for, and what the layers make of a digit.

    python experiments/lessons/features.py

001 calls the end of the convolutions "a long tube of small shaped images". Seed 0, five epochs:

- height and width shrink, 28, 26, 13, 11, 5, 3, and depth grows, 1, 32, 64, 128: 784 numbers become
  21,632, and then 1,152; each of them sees 18×18 of the 28×28 pixels;
- deeper filters look for larger things and are pickier: of the 100 test digits that excite a
  filter most, 23% are of one class at conv1 (3×3 pixels), 34% at conv2 (8×8), 51% at conv3 (18×18),
  of 100 random ones 15%;
- downsampling alone does not reduce the numbers: depth makes up for much of it, and conv1 has 28
  times as many as the image.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import jaxconv
from experiments.lessons import lesson
from experiments.lessons.grids import GROUND, INK, draw_tiles
from jaxconv.inspection.arithmetic import ReceptiveField, receptive_field
from jaxconv.inspection.feature_maps import feature_maps
from jaxconv.inspection.summary import layer_rows
from jaxconv.runs.cli import cli

WINDOWS = {"conv1": (3, 1), "pool1": (2, 2), "conv2": (3, 1), "pool2": (2, 2), "conv3": (3, 1)}
CONVS = ("conv1", "conv2", "conv3")
BEST = 100


@dataclasses.dataclass(frozen=True)
class Config(lesson.Config):
    """The lesson's settings."""

    epochs: int = 5
    """Epochs to train, 5 in the notebook."""
    seed: int = 0
    """Seed of the root key."""
    digit: int = 0
    """Which test digit's feature maps are drawn."""


def main(config: Config) -> dict[str, Any]:
    data = load_dataset()
    if not 0 <= config.digit < len(data.test):
        raise ValueError(f"digit must be in [0, {len(data.test)}), not {config.digit!r}.")
    with lesson.lesson_folder("features", config) as folder:
        model, tx = jaxconv.create_model("lab6"), jaxconv.rmsprop()
        key = jax.random.key(config.seed)
        state = jaxconv.create_train_state(model, tx, key, data.input_shape)
        step, eval_step = jaxconv.make_train_step(model, tx), jaxconv.make_eval_step(model)
        state, _ = jaxconv.fit(
            state, data.train, train_step=step, epochs=config.epochs, batch_size=64
        )
        test = jaxconv.evaluate(state, data.test, eval_step=eval_step)
        result: dict[str, Any] = {"test_accuracy": test["accuracy"]}
        shapes = {row.name: row.output_shape for row in layer_rows(model, data.input_shape)}
        shapes = {"image": data.input_shape} | {name: shapes[name] for name in WINDOWS}
        for name, shape in shapes.items():
            result[f"{name}_shape"] = list(shape)
            print(f"{name}: {shape}, {np.prod(shape):,} numbers")
        strongest = exciting(model, state, data.test.image)
        patches = {}
        for name in CONVS:
            result |= figures(name, strongest[name][0], data.test.label)
            answers, places = strongest[name]
            filters = np.argsort(-answers.max(axis=0), kind="stable")[:4]
            patches[name] = [
                exciting_patches(data.test.image, answers[:, i], places[:, i], field(name))
                for i in filters
            ]
            share, purity = (result[f"{name}_{x}"] for x in ("active_share", "purity"))
            print(
                f"{name}: sees {field(name).size} pixels; a filter fires for {share:.0%} of the "
                f"digits, and of the {BEST} that excite it most {purity:.0%} are of one class"
            )
        result["purity_by_chance"] = chance(data.test.label)
        print(f"Of {BEST} random digits {result['purity_by_chance']:.0%} are of one class")
        image = data.test.image[config.digit]
        maps = {k: np.asarray(x[0]) for k, x in feature_maps(model, state, image[None]).items()}
        result["dead_maps"] = [int((maps[name] <= 0).all(axis=(0, 1)).sum()) for name in CONVS]
        print(f"Of this digit's maps, empty: {result['dead_maps']} in {', '.join(CONVS)}")
        kernel = np.asarray(state.params["conv1"]["kernel"])[:, :, 0].transpose(2, 0, 1)

        def draw(figure: Any) -> None:
            top, middle, bottom = figure.subfigures(3, 1, height_ratios=(1.1, 1.15, 1.6))
            tube, filters = top.subplots(1, 2, width_ratios=(3, 2))
            draw_tube(tube, shapes)
            title = "the 32 filters of conv1: red adds, blue subtracts"
            draw_tiles(filters, kernel, columns=8, title=title, signed=True)
            for axes, name in zip(middle.subplots(1, len(WINDOWS)), WINDOWS, strict=True):
                title = f"{name}: 16 of {shapes[name][2]} maps"
                draw_tiles(axes, maps[name][..., :16].transpose(2, 0, 1), columns=4, title=title)
            for axes, name in zip(bottom.subplots(1, 3), CONVS, strict=True):
                size = field(name).size
                title = (
                    f"{name}: the {size}×{size} patches that excite\nfour filters most, one a row"
                )
                draw_tiles(axes, np.concatenate(patches[name]), columns=6, title=title)

        return lesson.finish(folder, result, draw, figsize=(11, 8.2))


def load_dataset() -> jaxconv.Dataset:
    return jaxconv.load_dataset("mnist")


def field(name: str) -> ReceptiveField:
    """The receptive field of a layer of lab6."""
    layers = list(WINDOWS)
    return receptive_field(WINDOWS[x] for x in layers[: layers.index(name) + 1])


def exciting(
    model: jaxconv.ConvNet, state: jaxconv.TrainState, image: np.ndarray, batch_size: int = 250
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each filter its strongest answer to each image, and the place of it in the feature map."""
    answers: dict[str, list[Any]] = {name: [] for name in CONVS}
    for start in range(0, len(image), batch_size):
        maps = feature_maps(model, state, image[start : start + batch_size])
        for name in CONVS:
            flat = np.asarray(maps[name]).reshape(len(maps[name]), -1, maps[name].shape[-1])
            places = np.stack(np.unravel_index(flat.argmax(axis=1), maps[name].shape[1:3]), -1)
            answers[name].append((flat.max(axis=1), places))
    return {
        name: (np.concatenate([x for x, _ in parts]), np.concatenate([x for _, x in parts]))
        for name, parts in answers.items()
    }


def figures(name: str, answers: np.ndarray, label: np.ndarray) -> dict[str, float | int]:
    """How many images excite a filter of a layer, and how much alike are those that do most."""
    order = np.argsort(-answers, axis=0, kind="stable")[:BEST]
    alive = answers.max(axis=0) > 0
    purity = [np.bincount(label[best]).max() / len(best) for best in order.T[alive]]
    return {
        f"{name}_receptive_field": field(name).size,
        f"{name}_active_share": float((answers > 0).mean()),
        f"{name}_purity": float(np.mean(purity)),
        f"{name}_dead_filters": int((~alive).sum()),
    }


def chance(label: np.ndarray, draws: int = 1000) -> float:
    """The share of the commonest class among so many random digits, the mean over draws."""
    random, count = np.random.default_rng(0), min(BEST, len(label))
    chosen = (random.choice(label, count, replace=False) for _ in range(draws))
    return float(np.mean([np.bincount(labels).max() / count for labels in chosen]))


def exciting_patches(
    image: np.ndarray, answers: np.ndarray, places: np.ndarray, seen: ReceptiveField, count: int = 6
) -> np.ndarray:
    """What the receptive field showed where a filter's answer was strongest, one patch an image."""
    patches = []
    for i in np.argsort(-answers, kind="stable")[:count]:
        top, left = (seen.start + int(place) * seen.step for place in places[i])
        patches.append(image[i, top : top + seen.size, left : left + seen.size, 0])
    return np.stack(patches)


def draw_tube(axes: Any, shapes: Mapping[str, Sequence[int]]) -> None:
    """Each layer's output as a box: its height, and its depth as the width."""
    from matplotlib.patches import Rectangle

    left = 0.0
    for name, (height, _, depth) in shapes.items():
        width = max(depth / 4, 1.5)
        corner = (left, -height / 2)
        axes.add_patch(Rectangle(corner, width, height, facecolor=GROUND, edgecolor=INK))
        place = (left + width / 2, height / 2 + 1)
        text = f"{name}\n{height}×{height}×{depth}"
        axes.annotate(text, place, ha="center", va="bottom", fontsize=7)
        left += max(width, 9) + 3
    axes.set(xlim=(-6, left + 2), ylim=(-15, 23))
    axes.set_title("height (up) and depth (to the right) of each output", fontsize=9)
    axes.axis("off")


if __name__ == "__main__":
    cli(Config, main, __doc__)
