"""The speed record as jaxconv trains it. `bench_record.py` starts it."""

import jax

from experiments.benchmarks.peers.peer_main import Digits
from experiments.benchmarks.peers.speed_main import main
from experiments.records import speed
from jaxconv.measure.compilation_cache import cache_if_possible


class Jaxconv:
    """A seed of the record at a time."""

    def __init__(self, recipe: dict, train: Digits, test: Digits) -> None:
        del recipe  # `speed.RECORD` has it
        self.train, self.test = (jax.device_put(x._asdict()) for x in (train, test))
        self.seed = -1

    def fit(self) -> float:
        self.seed += 1
        self.row = speed.train(speed.RECORD, self.seed, self.train, self.test)
        return self.row.seconds

    def accuracy(self) -> float:
        return self.row.accuracy


if __name__ == "__main__":
    with cache_if_possible():
        main(Jaxconv, "jax")
