"""The main function of `bench_record.py`'s processes; it imports NumPy alone."""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from experiments.benchmarks.peers.peer_main import Digits, read_digits, version


class Peer(Protocol):
    """The record's recipe in some library."""

    def fit(self) -> float:
        """Trains from the beginning, and returns the seconds."""
        ...

    def accuracy(self) -> float:
        """The test accuracy of the last training."""
        ...


def main(make: Callable[[dict, Digits, Digits], Peer], package: str) -> None:
    """Trains once, or some times after a first one, and prints one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", type=json.loads, help="The recipe, `speed.RECORD`, as JSON.")
    parser.add_argument("--data", type=Path, required=True, help="MNIST, in Keras' layout.")
    parser.add_argument("--times", type=int, default=0, help="Trainings after a first one.")
    parser.add_argument("--started", type=float, default=time.time(), help="The parent's time().")
    given = parser.parse_args()
    peer = make(given.recipe, *read_digits(given.data))
    peer.fit()
    accuracies = [peer.accuracy()]
    result = {"whole_seconds": time.time() - given.started, "version": version(package)}
    seconds = []
    for _ in range(given.times):
        seconds.append(peer.fit())
        accuracies.append(peer.accuracy())
    if seconds:
        result["seconds"] = statistics.median(seconds)
    print(json.dumps({**result, "accuracy": statistics.fmean(accuracies)}), flush=True)
