"""Times epochs with and without the check for NaN and checkpoints.

    python experiments/benchmarks/bench_saves.py
    python experiments/benchmarks/bench_saves.py --nets strided --rounds 3

An epoch is a whole call of `fit` on the bundled MNIST, compiled before, until its last save is on
the disk. Each round takes each kind once, and gives its ratio to the epoch without either. The
script prints the median and the range of the ratios.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

import jaxconv
from experiments.benchmarks.recipes import NOTEBOOKS, net_of
from jaxconv._checks import check_choice, check_positive
from jaxconv.measure import environment
from jaxconv.runs import Checkpoints, exit_codes, write_json

KINDS = {  # whether losses are checked, and when a checkpoint is saved
    "unchecked": (False, None),
    "checked": (True, None),
    "saved each epoch": (True, "epoch"),
    "saved every 100 steps": (True, 100),
}


def main(
    nets: list[str], rounds: int, samples: int | None = None, output: str | None = None
) -> dict[str, Any]:
    check_positive("rounds", rounds)
    content: dict[str, Any] = {**environment(), "rounds": rounds}
    train = jaxconv.load_dataset("mnist").train.batch()
    data = jax.device_put({name: x[:samples] for name, x in train.items()})
    for net in nets:
        check_choice("net", net, NOTEBOOKS)
        own = net_of(net)
        state = own.init(jax.random.key(0), (28, 28, 1))

        def epoch(kind: str, state: Any = state, own: Any = own, net: str = net) -> float:
            finite, every = KINDS[kind]
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                with Checkpoints(folder, every=every) as saves:  # pyright: ignore[reportArgumentType]
                    jaxconv.fit(
                        own,
                        state,
                        data,
                        epochs=1,
                        batch_size=NOTEBOOKS[net].batch_size,
                        check_finite=finite,
                        save=saves if every else None,
                        save_every=every if isinstance(every, int) else None,
                    )
                return time.perf_counter() - began

        for kind in KINDS:  # compiles
            epoch(kind)
        seconds = {kind: [] for kind in KINDS}
        for _ in range(rounds):
            for kind in KINDS:
                seconds[kind].append(epoch(kind))
        content[net] = seconds
        print(f"{net}: unchecked {statistics.median(seconds['unchecked']):.2f} s an epoch")
        for kind in list(KINDS)[1:]:
            ratios = sorted(
                own / plain for own, plain in zip(seconds[kind], seconds["unchecked"], strict=True)
            )
            middle = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
            print(f"  {kind}: {middle} of it", flush=True)
    if output is not None:
        write_json(Path(output), content)
    return content


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--nets", nargs="+", default=["strided", "lab6"], help="Nets (strided lab6)."
    )
    parser.add_argument("--rounds", type=int, default=9, help="Rounds of ratios (9).")
    parser.add_argument("--output", help="A JSON file for all measurements.")
    with exit_codes():
        given = parser.parse_args()
        main(given.nets, given.rounds, output=given.output)
