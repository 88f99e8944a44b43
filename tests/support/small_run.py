"""An experiment on a few hundred digits, as a process of its own: for tests that end it early.

    python tests/support/small_run.py dropout --epochs 3 --save-every 2

FILE_SIZE_LIMIT in the environment is the most bytes that a file may have, as on a full disk.
"""

import importlib
import os
import resource
import sys

from jaxconv import Dataset, load_dataset
from jaxconv.runs import experiment


def digits(*_: object, **__: object) -> Dataset:
    mnist = load_dataset()
    train, test = mnist.train, mnist.test
    arrays = (train.image[:300], train.label[:300], test.image[:70], test.label[:70])
    return Dataset.from_arrays(*arrays, num_classes=10, name="digits")


if __name__ == "__main__":
    net = importlib.import_module(f"experiments.{sys.argv.pop(1)}")
    experiment.load_dataset = digits
    if limit := int(os.environ.get("FILE_SIZE_LIMIT", "0")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    experiment.cli(net.Config, net.main, net.__doc__)
