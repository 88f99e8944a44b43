"""Runs an experiment on a few hundred digits: a process of its own for tests that end it early.

    python tests/support/small_run.py dropout --epochs 3 --save-every 2

The environment variable FILE_SIZE_LIMIT sets the most bytes that a file may have, as on a full
disk.
"""

import importlib
import os
import resource
import sys

from jaxconv import runs
from jaxconv.runs import prepare
from tests.support.digits import load_digits

if __name__ == "__main__":
    net = importlib.import_module(f"experiments.{sys.argv.pop(1)}")
    prepare.load_dataset = load_digits
    if limit := int(os.environ.get("FILE_SIZE_LIMIT", "0")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    runs.cli(net.CONFIG, net.main, net.__doc__)
