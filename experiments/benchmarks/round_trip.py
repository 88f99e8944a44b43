"""Measures what `prepare_digit` gives back of digits that became pictures: MNIST's test set.

    python experiments/benchmarks/round_trip.py
    python experiments/benchmarks/round_trip.py --run runs/lab6-0-1

Each test digit becomes a picture of 224 x 224 pixels, by each round trip alone and by all together,
goes through `prepare_digit`, and the net names its class. The picture comes from a seed and the
digit's number. Without `--run` the script trains lab6 (a minute). A picture that `prepare_digit`
refuses counts as an error.
"""

import argparse
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

import jaxconv
from experiments.benchmarks.recipes import NOTEBOOKS, net_of
from jaxconv.data import prepare_digit
from jaxconv.measure import environment
from jaxconv.runs import exit_codes, write_json

SIDE = 224
"""Height and width of the pictures."""

Ink = Float[np.ndarray, "224 224"]
"""A large digit: 0 is background, 1 is ink."""
Picture = UInt8[np.ndarray, "224 224"]


def paste(
    digit: UInt8[np.ndarray, "28 28 1"], *, times: float = 5, angle: float = 0, at: Any = (0.5, 0.5)
) -> Ink:
    """Enlarges and rotates a digit, and pastes it somewhere: at (0, 0) in the upper left corner."""
    large = Image.fromarray(digit[..., 0]).rotate(angle, Image.Resampling.BICUBIC)
    size = round(28 * times)
    large = np.asarray(large.resize((size, size), Image.Resampling.BICUBIC)) / 255
    ink = np.zeros((SIDE, SIDE))
    top, left = (round(share * (SIDE - size)) for share in at)
    ink[top : top + size, left : left + size] = large
    return ink


def on_paper(ink: Ink, rng: np.random.Generator) -> Ink:
    """Dark ink on light paper: a lamp at one side, soft blotches, and grain."""
    light = np.linspace(-10, 10, SIDE) * rng.choice([-1, 1])
    blotches = Image.fromarray(rng.normal(0, 4, (28, 28)).astype(np.float32))
    blotches = np.asarray(blotches.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    paper = 215 + light + blotches + rng.normal(0, 3, ink.shape)
    return paper + ink * (50 - paper)


def levels(values: Ink) -> Picture:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def jpeg(picture: Picture) -> Picture:
    """Writes and reads a JPEG of Pillow's quality, 75."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG")
    return np.asarray(Image.open(file))


def noisy(picture: Picture, rng: np.random.Generator) -> Picture:
    return levels(picture + rng.normal(0, 15, picture.shape))


def together(digit: UInt8[np.ndarray, "28 28 1"], rng: np.random.Generator) -> Picture:
    """A small or large digit, rotated, off centre, on paper or a blackboard, noisy, as a JPEG."""
    ink = paste(digit, times=rng.uniform(3, 7), angle=rng.uniform(-10, 10), at=rng.uniform(size=2))
    paper = levels(on_paper(ink, rng))
    return jpeg(noisy(paper if rng.random() < 0.5 else 255 - paper, rng))


TRIPS: Mapping[str, Callable[[Any, np.random.Generator], np.ndarray]] = {
    "as it is": lambda digit, _: digit,
    "large": lambda digit, _: levels(255 * paste(digit)),
    "off centre": lambda digit, rng: levels(255 * paste(digit, at=rng.uniform(size=2))),
    "inverted": lambda digit, _: levels(255 - 255 * paste(digit)),
    "rotated": lambda digit, rng: levels(255 * paste(digit, angle=rng.uniform(-10, 10))),
    "JPEG": lambda digit, _: jpeg(levels(255 * paste(digit))),
    "noise": lambda digit, rng: noisy(levels(255 * paste(digit)), rng),
    "paper": lambda digit, rng: levels(on_paper(paste(digit), rng)),
    "all together": together,
}
"""Each makes a picture; all but the first and the last change one thing about `large`."""


def measure(
    predict: Callable[[np.ndarray], Any], data: jaxconv.Split, *, seed: int = 0
) -> dict[str, dict[str, float]]:
    """For each round trip three shares: named rightly, refused, back within one level."""
    images, labels = np.asarray(data.image), np.asarray(data.label)
    plain = np.asarray(predict(images)).argmax(axis=-1) == labels
    content = {"not prepared": {"accuracy": float(plain.mean()), "refused": 0.0, "same": 1.0}}
    print("| picture | accuracy | refused | within one level |\n|---|---|---|---|")
    print_row("not prepared", **content["not prepared"])
    for trip, picture_of in TRIPS.items():
        prepared, refused = np.zeros_like(images), np.zeros(len(images), bool)
        for i, digit in enumerate(images):
            try:
                prepared[i] = prepare_digit(picture_of(digit, np.random.default_rng((seed, i))))
            except ValueError:
                refused[i] = True
        right = (np.asarray(predict(prepared)).argmax(axis=-1) == labels) & ~refused
        same = np.abs(prepared.astype(int) - images).max(axis=(1, 2, 3)) <= 1
        shares = zip(("accuracy", "refused", "same"), (right, refused, same), strict=True)
        content[trip] = {name: float(share.mean()) for name, share in shares}
        print_row(trip, **content[trip])
    return content


def print_row(trip: str, *, accuracy: float, refused: float, same: float) -> None:
    print(f"| {trip} | {accuracy:.4f} | {refused:.4f} | {same:.4f} |", flush=True)


def trained_lab6(data: jaxconv.Dataset) -> Callable[[np.ndarray], Any]:
    """Trains lab6 as its notebook does, from seed 0."""
    net, settings = net_of("lab6"), NOTEBOOKS["lab6"]
    state = net.init(jax.random.key(0), data.input_shape)
    state, _ = jaxconv.fit(
        net, state, data.train, epochs=settings.epochs, batch_size=settings.batch_size
    )
    return lambda images: jaxconv.predict(net, state, images)


def main(run: str | None = None, output: str | None = None) -> dict[str, Any]:
    data = jaxconv.load_dataset("mnist")
    predict = jaxconv.load_run(run).predict if run else trained_lab6(data)
    content = {**environment(), "accuracy": measure(predict, data.test)}
    if output is not None:
        write_json(Path(output), content)
    return content


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", help="A run whose net is asked (one that the script trains).")
    parser.add_argument("--output", help="A JSON file for all measurements.")
    with exit_codes():
        given = parser.parse_args()
        main(given.run, given.output)
