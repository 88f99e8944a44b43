"""The main function of every peer's process: times some warm steps, or the notebook's whole job.

`bench_peers.py` starts the process. This module imports NumPy alone, so that a peer's start and
memory are its own.
"""

import argparse
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from experiments.benchmarks.keras_nets import Notebook


class Digits(NamedTuple):
    """Images and labels: uint8 [N, 28, 28, 1] and int32 [N], or as a peer prepares them."""

    image: Any
    label: Any


class Peer(Protocol):
    """A net, its optimizer and its loss, in some library; made from the net's name and settings."""

    device: str

    def prepare(self, digits: Digits) -> Digits:
        """The digits in the library's best form; called once a process, off the warm clock."""
        ...

    def fit(self, train: Digits, notebook: Notebook, epochs: int, test: Digits | None) -> float:
        """Trains, and validates as the notebook does if `test` is given.

        Every peer shuffles each epoch anew, trains the last partial batch, and keeps running means
        of loss and accuracy.

        Returns:
          The seconds of the last epoch; without `test`, those of its steps.
        """
        ...

    def accuracy(self, test: Digits) -> float: ...


def main(make: Callable[[str, Notebook], Peer], *packages: str) -> None:
    """Does the work that the command line names, and prints one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("net", help="The name of the net.")
    parser.add_argument("notebook", help="Its `Notebook`, as JSON.")
    parser.add_argument("--data", type=Path, required=True, help="MNIST, in Keras' layout.")
    parser.add_argument("--steps", type=int, help="Time so many warm steps, not the whole job.")
    parser.add_argument("--epochs", type=int, help="Epochs of the job (the notebook's).")
    parser.add_argument("--started", type=float, default=time.time(), help="The parent's time().")
    given = parser.parse_args()
    notebook = Notebook(**json.loads(given.notebook))
    train, test = read_digits(given.data)
    versions = {name: version(name) for name in packages}
    peer, result = make(given.net, notebook), {}
    if given.steps:
        samples = given.steps * notebook.batch_size
        train = peer.prepare(Digits(train.image[:samples], train.label[:samples]))
        result["seconds"] = peer.fit(train, notebook, 2, None)  # the first compiles and warms up
        test = peer.prepare(test)
        for _ in range(3):  # the first two compile and warm up
            began = time.perf_counter()
            peer.accuracy(test)
            result["evaluation_seconds"] = time.perf_counter() - began
    else:
        train, test = peer.prepare(train), peer.prepare(test)
        peer.fit(train, notebook, given.epochs or notebook.epochs, test)
        result["accuracy"] = peer.accuracy(test)
        result["seconds"] = time.time() - given.started
    result |= {"peak_rss_bytes": _peak_rss(), "device": peer.device, "versions": versions}
    print(json.dumps({**result, **getattr(peer, "facts", {})}), flush=True)


def read_digits(path: Path) -> tuple[Digits, Digits]:
    """The training and the test digits of a file in Keras' layout."""
    with np.load(path) as file:
        train, test = (
            Digits(file[f"x_{part}"][..., None], file[f"y_{part}"].astype(np.int32))
            for part in ("train", "test")
        )
    return train, test


def version(package: str) -> str:
    """The version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # tensorflow-cpu, a checkout on the path
        return "unknown"


def _peak_rss() -> int:
    """The same as `jaxconv.measure.peak_memory`, which would import JAX in every peer."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().partition("VmHWM:")[2].split()[0])
    import resource  # Windows has none

    unit = 1 if platform.system() == "Darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
