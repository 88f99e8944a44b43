"""The notebooks' nets over many seeds, with the notebooks' settings, in one program a net."""

import functools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.benchmarks.accelerator.shared import describe, facts, load_batches
from experiments.benchmarks.keras_nets import SHAPE
from experiments.benchmarks.recipes import NOTEBOOKS, net_of
from jaxconv.measure import peak_memory
from jaxconv.models import Form
from jaxconv.runs import write_json
from jaxconv.training import fit_seeds


def measure(
    output: Path,
    *,
    nets: Sequence[str],
    form: Form,
    seeds: int,
    epochs: int | None = None,
    samples: int | None = None,
) -> list[dict[str, Any]]:
    """Trains each net from seeds 0, 1, ... vmapped; writes the JSON file again after each net.

    Args:
      output: the JSON file.
      nets: notebooks' nets.
      form: the form of their convolutions.
      seeds: how many seeds.
      epochs: None for the notebook's.
      samples: how many training and test samples to use; None for all.
    """
    rows: list[dict[str, Any]] = []
    content = {"benchmark": "accelerator accuracy", **facts(), "rows": rows}
    keys = [jax.random.key(seed) for seed in range(seeds)]
    for net in nets:
        own, (train, test) = net_of(net, form=form), load_batches(net, samples)
        row: dict[str, Any] = {"net": net, "form": form, "strategy": "vmap", "seeds": seeds}
        row["batch_size"] = NOTEBOOKS[net].batch_size
        row["epochs"] = epochs or NOTEBOOKS[net].epochs
        try:
            _, histories = fit_seeds(
                own,
                jax.jit(functools.partial(own.init, input_shape=SHAPE)),
                keys,
                train,
                epochs=row["epochs"],
                batch_size=row["batch_size"],
                test=test,
                strategy="vmap",
                group=seeds,
                keep_states=False,
            )
            for name in ("test_accuracy", "test_loss"):
                values = [history[-1][name] for history in histories]
                row |= {f"{name}_by_seed": values, f"{name}_mean": statistics.mean(values)}
                row[f"{name}_std"] = statistics.stdev(values)
            # Training alone; the clock of `fit_seeds` leaves compilation out.
            row["train_seconds"] = sum(line["seconds"] for lines in histories for line in lines)
            mean, std = row["test_accuracy_mean"], row["test_accuracy_std"]
            print(f"{net}: {mean:.4f} ± {std:.4f}, {row['train_seconds']:.1f} s", flush=True)
        except Exception as error:
            row["error"] = describe(error)
            print(f"{net}: {row['error']}", flush=True)
        rows.append(row)
        content |= peak_memory()
        write_json(output, content)
    return rows
