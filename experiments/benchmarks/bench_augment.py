"""Times an epoch of a net with and without augmentation.

    python experiments/benchmarks/bench_augment.py
    python experiments/benchmarks/bench_augment.py --nets strided lab6 --rounds 9

An epoch is 300 steps of the net's own batch size on the bundled MNIST, compiled before. Each round
takes each kind once, and gives its ratio to the epoch without. The script prints the median and the
range of the ratios.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import jax

import jaxconv
from experiments.benchmarks.bench_peers import format_range
from experiments.benchmarks.recipes import EXPERIMENTS, NOTEBOOKS
from jaxconv._checks import check_choice, check_positive
from jaxconv.data import compose, erase, warp
from jaxconv.measure import environment
from jaxconv.runs import exit_codes, write_json

STEPS = 300
KINDS = {
    "none": None,
    "shift": warp(shift=1.0),
    "shift, rotation, zoom": warp(shift=1.0, rotation=10, zoom=0.1),
    "all": compose(warp(shift=1.0, rotation=10, zoom=0.1, shear=5, elastic=0.5), erase(4)),
}


def main(
    nets: list[str], rounds: int, steps: int = STEPS, output: Path | None = None
) -> dict[str, Any]:
    check_positive("rounds", rounds)
    content: dict[str, Any] = {**environment(), "rounds": rounds, "steps": steps}
    train = jaxconv.load_dataset("mnist").train.batch()
    for net in nets:
        check_choice("net", net, EXPERIMENTS)
        recipe, batch_size = EXPERIMENTS[net].RECIPE, NOTEBOOKS[net].batch_size
        data = jax.device_put({name: x[: steps * batch_size] for name, x in train.items()})
        own = {
            kind: jaxconv.classifier(recipe.model(10), recipe.tx(1e-3), augment=augment)
            for kind, augment in KINDS.items()
        }
        state = own["none"].init(jax.random.key(0), (28, 28, 1))

        seconds = {kind: [] for kind in KINDS}
        for _ in range(rounds + 1):
            for kind in KINDS:
                _, history = jaxconv.fit(
                    own[kind], state, data, epochs=1, batch_size=batch_size, chunks=1
                )
                seconds[kind].append(history[0]["seconds"])
        seconds = {kind: values[1:] for kind, values in seconds.items()}  # the first ones warm up
        content[net] = seconds
        plain = 1000 * statistics.median(seconds["none"]) / steps
        print(f"{net}: {plain:.2f} ms a step of {batch_size} images without augmentation")
        for kind in list(KINDS)[1:]:
            ratios = [a / b for a, b in zip(seconds[kind], seconds["none"], strict=True)]
            print(f"  {kind}: {format_range(ratios, 3)} of it", flush=True)
    if output is not None:
        write_json(output, content)
    return content


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", default=["lab6"], help="Nets (lab6).")
    parser.add_argument("--rounds", type=int, default=5, help="Rounds of ratios (5).")
    parser.add_argument("--output", type=Path, help="A JSON file for all measurements.")
    with exit_codes():
        given = parser.parse_args()
        main(given.nets, given.rounds, output=given.output)
