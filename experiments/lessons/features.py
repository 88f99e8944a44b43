"""Features (notebook 001): which patterns does `lab6` learn, and how does it transform a digit?

    python experiments/lessons/features.py

001 calls the end of the convolutions "a long tube of small shaped images". With seed 0 and five
epochs:

- height and width shrink, 28, 26, 13, 11, 5, 3, and depth grows, 1, 32, 64, 128: 784 numbers become
  21,632, and then 1,152, each of which sees 18×18 of the 28×28 pixels;
- deeper filters look for larger things and are pickier: of the 100 test digits that excite a
  filter most, 23% belong to one class at conv1 (3×3 pixels), 35% at conv2 (8×8), 52% at conv3
  (18×18), and 15% of 100 random digits;
- downsampling alone does not reduce the numbers: depth makes up for much of it, and conv1 has 28
  times as many as the image.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped

import jaxconv
from experiments.lessons import lesson
from experiments.lessons.grids import GROUND, INK, draw_tiles
from jaxconv import Dataset, TrainState, load_dataset
from jaxconv.inspection import ReceptiveField, feature_maps, layer_rows, receptive_field
from jaxconv.runs import cli

WINDOWS = {"conv1": (3, 1), "pool1": (2, 2), "conv2": (3, 1), "pool2": (2, 2), "conv3": (3, 1)}
CONVS = ("conv1", "conv2", "conv3")
TOP_IMAGES = 100  # how many images of each filter count for its purity
Images = Shaped[np.ndarray, "samples height width channels"]


@dataclasses.dataclass(frozen=True)
class Config(lesson.Config):
    """The lesson's settings."""

    epochs: int = 5
    """How many epochs to train, 5 in the notebook."""
    seed: int = 0
    """The seed of the root key."""
    digit: int = 0
    """The index of the test digit whose feature maps are drawn."""


class Responses(NamedTuple):
    """The strongest response of each filter of a layer to each image."""

    values: Float[np.ndarray, "samples filters"]
    places: Int[np.ndarray, "samples filters 2"]
    """Row and column of the response in the feature map."""


def main(config: Config) -> dict[str, Any]:
    data = load_dataset("mnist")
    if not 0 <= config.digit < len(data.test):
        raise ValueError(f"digit must be in [0, {len(data.test)}), not {config.digit!r}.")
    with lesson.lesson_folder("features", config) as folder:
        model = jaxconv.create_model("lab6")
        state, accuracy = train(model, config, data)
        result: dict[str, Any] = {"test_accuracy": accuracy}
        shapes = {row.name: row.output_shape for row in layer_rows(model, data.input_shape)}
        shapes = {"image": data.input_shape} | {name: shapes[name] for name in WINDOWS}
        for name, shape in shapes.items():
            result[f"{name}_shape"] = list(shape)
            print(f"{name}: {shape}, {np.prod(shape):,} numbers")
        responses = strongest_responses(model, state, data.test.image)
        patches = {}
        for name in CONVS:
            result |= selectivity(name, responses[name].values, data.test.label)
            patches[name] = patches_of_four_filters(data.test.image, responses[name], field(name))
            share, purity = (result[f"{name}_{key}"] for key in ("active_share", "purity"))
            print(
                f"{name}: sees {field(name).size} pixels; a filter fires for {share:.0%} of the "
                f"digits, and {purity:.0%} of the {TOP_IMAGES} that excite it most are of one "
                "class"
            )
        result["purity_by_chance"] = purity_by_chance(data.test.label)
        print(f"{result['purity_by_chance']:.0%} of {TOP_IMAGES} random digits are of one class")
        image = data.test.image[config.digit]
        maps = {k: np.asarray(x[0]) for k, x in feature_maps(model, state, image[None]).items()}
        result["dead_maps"] = [int((maps[name] <= 0).all(axis=(0, 1)).sum()) for name in CONVS]
        print(f"Empty maps of this digit: {result['dead_maps']} in {', '.join(CONVS)}")
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
                draw_tiles(axes, patches[name], columns=6, title=title)

        return lesson.finish(folder, result, draw, figsize=(11, 8.2))


def train(model: jaxconv.ConvNet, config: Config, data: Dataset) -> tuple[TrainState, float]:
    """Trains the model as the notebook does, and returns its state and test accuracy."""
    net = jaxconv.classifier(model, jaxconv.rmsprop())
    state = net.init(jax.random.key(config.seed), data.input_shape)
    state, _ = jaxconv.fit(net, state, data.train, epochs=config.epochs, batch_size=64)
    return state, jaxconv.evaluate(net, state, data.test)["accuracy"]


def field(name: str) -> ReceptiveField:
    """The receptive field of a layer of lab6."""
    layers = list(WINDOWS)
    return receptive_field(WINDOWS[x] for x in layers[: layers.index(name) + 1])


def strongest_responses(
    model: jaxconv.ConvNet, state: TrainState, image: Images, batch_size: int = 250
) -> dict[str, Responses]:
    """Finds the strongest response of each filter to each image, for each convolution."""
    batches: dict[str, list[Responses]] = {name: [] for name in CONVS}
    for start in range(0, len(image), batch_size):
        maps = feature_maps(model, state, image[start : start + batch_size])
        for name in CONVS:
            flat = np.asarray(maps[name]).reshape(len(maps[name]), -1, maps[name].shape[-1])
            places = np.stack(np.unravel_index(flat.argmax(axis=1), maps[name].shape[1:3]), -1)
            batches[name].append(Responses(flat.max(axis=1), places))
    return {
        name: Responses(*(np.concatenate(parts) for parts in zip(*batch, strict=True)))
        for name, batch in batches.items()
    }


def selectivity(
    name: str, responses: Float[np.ndarray, "samples filters"], label: Int[np.ndarray, " samples"]
) -> dict[str, float | int]:
    """Measures how many images excite a filter, and whether the best of them are of one class.

    Args:
      name: the layer's.
      responses: the strongest response of each filter to each image.
      label: the classes of the images.

    Returns:
      The layer's receptive field; the share of (image, filter) pairs with a response; the purity,
      which is the share of the commonest class among the images that excite a filter most, the mean
      over filters; and the number of filters that no image excites.
    """
    order = np.argsort(-responses, axis=0, kind="stable")[:TOP_IMAGES]
    alive = responses.max(axis=0) > 0
    purity = [np.bincount(label[best]).max() / len(best) for best in order.T[alive]]
    return {
        f"{name}_receptive_field": field(name).size,
        f"{name}_active_share": float((responses > 0).mean()),
        f"{name}_purity": float(np.mean(purity)),
        f"{name}_dead_filters": int((~alive).sum()),
    }


def purity_by_chance(label: Int[np.ndarray, " samples"], draws: int = 1000) -> float:
    """Measures the purity of randomly chosen images, the mean over draws."""
    rng, count = np.random.default_rng(0), min(TOP_IMAGES, len(label))
    chosen = (rng.choice(label, count, replace=False) for _ in range(draws))
    return float(np.mean([np.bincount(labels).max() / count for labels in chosen]))


def patches_of_four_filters(
    image: Images, responses: Responses, seen: ReceptiveField
) -> Shaped[np.ndarray, "patches size size"]:
    """Cuts out the patches that excite the four filters with the strongest responses."""
    values, places = responses
    filters = np.argsort(-values.max(axis=0), kind="stable")[:4]
    return np.concatenate(
        [exciting_patches(image, values[:, i], places[:, i], seen) for i in filters]
    )


def exciting_patches(
    image: Images,
    responses: Float[np.ndarray, " samples"],
    places: Int[np.ndarray, "samples 2"],
    seen: ReceptiveField,
    count: int = 6,
) -> Shaped[np.ndarray, "patches size size"]:
    """Cuts the receptive field of a filter's strongest response out of an image.

    Args:
      image: the images.
      responses: the filter's strongest response to each.
      places: row and column of each response in the feature map.
      seen: the layer's receptive field.
      count: how many patches to return, from the images with the strongest responses.
    """
    patches = []
    for i in np.argsort(-responses, kind="stable")[:count]:
        top, left = (seen.start + int(place) * seen.step for place in places[i])
        patches.append(image[i, top : top + seen.size, left : left + seen.size, 0])
    return np.stack(patches)


def draw_tube(axes: Any, shapes: Mapping[str, Sequence[int]]) -> None:
    """Draws each layer's output as a box: the height is its height, the width its depth."""
    from matplotlib.patches import Rectangle

    left = 0.0
    for name, (height, _, depth) in shapes.items():
        width = max(depth / 4, 1.5)
        corner = (left, -height / 2)
        axes.add_patch(Rectangle(corner, width, height, facecolor=GROUND, edgecolor=INK))
        above = (left + width / 2, height / 2 + 1)
        text = f"{name}\n{height}×{height}×{depth}"
        axes.annotate(text, above, ha="center", va="bottom", fontsize=7)
        left += max(width, 9) + 3
    axes.set(xlim=(-6, left + 2), ylim=(-15, 23))
    axes.set_title("height (up) and depth (to the right) of each output", fontsize=9)
    axes.axis("off")


if __name__ == "__main__":
    cli(Config, main, __doc__)
