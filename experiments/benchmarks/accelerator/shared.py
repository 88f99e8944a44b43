"""The inputs that all parts share, and the facts that all results contain."""

import datetime
import functools
import shutil
import subprocess
from typing import Any

import jax

import jaxconv
from experiments.benchmarks.recipes import NOTEBOOKS
from jaxconv.data import Batch
from jaxconv.measure import environment


@functools.cache
def load_batches(net: str, samples: int | None) -> tuple[Batch, Batch]:
    """The notebook's training samples and the test samples, on the device.

    Args:
      net: a notebook's net; the training samples lack the share that its notebook holds out.
      samples: how many of the first samples to take; None for all.
    """
    data = jaxconv.load_dataset("mnist").split_validation(NOTEBOOKS[net].validation_split)
    batches = (data.train.batch(), data.test.batch())
    return jax.device_put(jax.tree.map(lambda x: x[:samples], batches))


def facts() -> dict[str, Any]:
    """The date, the card with its driver, and the environment."""
    card = None
    if shutil.which("nvidia-smi"):
        query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        done = subprocess.run(["nvidia-smi", *query], capture_output=True, text=True)
        card = done.stdout.strip() or None
    now = datetime.datetime.now(datetime.UTC)
    return {"date": f"{now:%Y-%m-%d}", "card": card, "environment": environment()}


def describe(error: BaseException) -> str:
    """An error in one line of at most 300 characters; XLA's messages are pages long."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
