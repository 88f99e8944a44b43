"""The main function of `bench_record.py`'s processes; it imports NumPy alone."""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np


class Digits(NamedTuple):
    """Images and labels: uint8 [N, 28, 28, 1] and int32 [N], or as a peer prepares them."""

    image: Any
    label: Any


class Peer(Protocol):
    """The record's recipe in some library."""

    def fit(self) -> float:
        """Trains from the beginning, and returns the seconds."""
        ...

    def accuracy(self) -> float:
        """The test accuracy of the last training."""
        ...


def main(make: Callable[[dict, Digits, Digits], Peer]) -> None:
    """Trains once, or some times after a first one, and prints one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", type=json.loads, help="The recipe, `speed.RECORD`, as JSON.")
    parser.add_argument("--data", type=Path, required=True, help="MNIST, in Keras' layout.")
    parser.add_argument("--times", type=int, default=0, help="Trainings after a first one.")
    parser.add_argument("--started", type=float, default=time.time(), help="The parent's time().")
    given = parser.parse_args()
    with np.load(given.data) as file:
        train, test = (
            Digits(file[f"x_{part}"][..., None], file[f"y_{part}"].astype(np.int32))
            for part in ("train", "test")
        )
    peer = make(given.recipe, train, test)
    peer.fit()
    accuracies = [peer.accuracy()]
    result = {"whole_seconds": time.time() - given.started}
    seconds = []
    for _ in range(given.times):
        seconds.append(peer.fit())
        accuracies.append(peer.accuracy())
    if seconds:
        result["seconds"] = statistics.median(seconds)
    print(json.dumps({**result, "accuracy": statistics.fmean(accuracies)}), flush=True)
