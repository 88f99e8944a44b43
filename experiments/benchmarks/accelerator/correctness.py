"""The gradient of the first batch against float64 on the CPU, by net, form, dtype and precision."""

import contextlib
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.accelerator.shared import describe, facts, load_batches
from experiments.benchmarks.keras_nets import SHAPE
from experiments.benchmarks.recipes import net_of
from jaxconv.data import Batch
from jaxconv.runs import write_json
from jaxconv.training import TrainState

SETTINGS = (("float32", None), ("float32", "highest"), ("bfloat16", None))
"""The dtypes with their precision of products."""


def gradient(
    net: str, form: str, dtype: str, precision: str | None, state: TrainState, batch: Batch
) -> tuple[float, np.ndarray]:
    """The loss of a batch, without dropout, and its gradient as one float64 vector.

    Args:
      net: a notebook's net.
      form: the form of its convolutions.
      dtype: of the computation; float64 runs on the CPU.
      precision: of products, such as `"highest"`; None for the device's own.
      state: the net's parameters, on the host.
      batch: images and labels.
    """
    params = state.params
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.default_matmul_precision(precision))
        settings: dict[str, Any] = {"form": form, "dtype": dtype}
        if dtype == "float64":
            stack.enter_context(jax.enable_x64(True))
            stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
            settings["param_dtype"] = dtype
            params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
        own = net_of(net, **settings)

        def loss_fn(params: Any) -> jax.Array:
            sums = own.eval_step(state._replace(params=params), batch)
            return sums["loss"] / sums["count"]

        mean_loss, grads = jax.device_get(jax.jit(jax.value_and_grad(loss_fn))(params))
    return float(mean_loss), np.concatenate(
        [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(grads)]
    )


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The norm of the difference over the norm of the second vector."""
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def measure(
    output: Path, *, nets: Sequence[str], samples: int, workers: int
) -> list[dict[str, Any]]:
    """Compares gradients; writes the JSON file again after each row.

    Args:
      output: the JSON file.
      nets: notebooks' nets.
      samples: the number of digits in the batch.
      workers: how many programs compile at once.
    """
    rows: list[dict[str, Any]] = []
    content = {"benchmark": "accelerator correctness", **facts(), "rows": rows}
    with ThreadPoolExecutor(workers) as pool:
        for net in nets:
            batch = jax.device_get(load_batches(net, samples)[0])
            state = net_of(net).init(jax.random.key(0), SHAPE)
            state = jax.device_get(state._replace(rng=None))
            truth = pool.submit(gradient, net, "xla", "float64", None, state, batch)
            found: dict[Any, np.ndarray] = {}
            futures = {
                (form, dtype, precision): pool.submit(
                    gradient, net, form, dtype, precision, state, batch
                )
                for (dtype, precision), form in itertools.product(SETTINGS, ("xla", "patches"))
            }
            for (form, dtype, precision), future in futures.items():
                row: dict[str, Any] = {"net": net, "form": form, "dtype": dtype}
                row["precision"] = precision or "default"
                try:
                    true_loss, true_grads = truth.result()
                    mean_loss, grads = future.result()
                    found[form, dtype, precision] = grads
                    row |= {"loss": mean_loss, "loss_error": abs(mean_loss - true_loss)}
                    row["error_of_gradient"] = distance(grads, true_grads)
                    if ("xla", dtype, precision) in found:
                        row["from_xla"] = distance(grads, found["xla", dtype, precision])
                except Exception as error:
                    row["error"] = describe(error)
                rows.append(row)
                write_json(output, content)
                print(row, flush=True)
    return rows
