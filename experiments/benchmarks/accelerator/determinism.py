"""The bits of an epoch: repeated, in several fresh processes, resumed in its middle, and mapped.

Without and with `--xla_gpu_deterministic_ops`: the processes `a` and `b` have compilation caches of
their own, so that each tunes its kernels itself; `again` is a third one with the cache of `a`.
"""

import contextlib
import functools
import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxconv
from experiments.benchmarks.accelerator.processes import (
    Part,
    cache_variables,
    run_parts,
    xla_flags,
)
from experiments.benchmarks.accelerator.shared import describe, facts, load_batches
from experiments.benchmarks.keras_nets import SHAPE
from experiments.benchmarks.recipes import NOTEBOOKS, net_of
from jaxconv.models import Form
from jaxconv.runs import Checkpoints, read_arrays, write_arrays, write_json
from jaxconv.runs.cli import DETERMINISTIC
from jaxconv.training import ResumePoint, TrainState, fit_seeds

Arrays = dict[str, np.ndarray]


class KilledError(Exception):
    """Ends an epoch in its middle."""


def arrays_of(state: TrainState) -> Arrays:
    """The parameters by name, on the host."""
    leaves = jax.tree_util.tree_flatten_with_path(jax.device_get(state.params))[0]
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}


def compare(ours: Arrays, theirs: Arrays) -> dict[str, Any]:
    """Whether all bits are equal, and the largest difference of any number.

    Example:
      >>> compare({"a": np.zeros(2)}, {"a": np.array([0.0, 0.5])})
      {'equal': False, 'largest_difference': 0.5}
    """
    equal = all(x.tobytes() == theirs[name].tobytes() for name, x in ours.items())
    differences = [np.max(np.abs(x - theirs[name])) for name, x in ours.items()]
    return {"equal": equal, "largest_difference": float(max(differences))}


def resume_in_middle(fit: Callable[..., Any], first: TrainState, every: int) -> TrainState:
    """The end of an epoch that was killed after its second save, and resumed from it."""
    with tempfile.TemporaryDirectory() as folder:
        with Checkpoints(folder, every=every) as saves:

            def save(state: TrainState, point: ResumePoint) -> None:
                saves(state, point)
                if point.step >= 2 * every:
                    raise KilledError

            with contextlib.suppress(KilledError):
                fit(first, save=save, save_every=every)
        with Checkpoints(folder) as saves:
            state, point = saves.restore(first)
    return fit(state, resume=point)[0]


def measure(
    output: Path, *, cases: Sequence[tuple[str, Form]], samples: int, more: bool
) -> list[dict[str, Any]]:
    """Trains an epoch for each case, again, and with `more` resumed and as one of two mapped.

    It writes the JSON file after each case, and the case's parameters to an npz file beside it.
    """
    rows: list[dict[str, Any]] = []
    content = {**facts(), "rows": rows}
    for i, (net, form) in enumerate(cases):
        row: dict[str, Any] = {"net": net, "form": form, "samples": samples}
        rows.append(row)
        try:
            own, (train, _) = net_of(net, form=form), load_batches(net, samples)
            size = NOTEBOOKS[net].batch_size
            options: Any = {"epochs": 1, "batch_size": size}
            fit = functools.partial(jaxconv.fit, own, data=train, **options)
            make_state = jax.jit(functools.partial(own.init, input_shape=SHAPE))
            first = make_state(jax.random.key(0))
            state, history = fit(first)
            arrays = arrays_of(state)
            write_arrays(output.with_name(f"{output.stem}-{i}.npz"), arrays)
            row |= {"loss": history[0]["loss"], "epoch_seconds": history[0]["seconds"]}
            row["repeated"] = compare(arrays, arrays_of(fit(first)[0]))
            if more:
                end = resume_in_middle(fit, first, every=max(1, samples // size // 8))
                row["resumed"] = compare(arrays, arrays_of(end))
                keys = [jax.random.key(seed) for seed in (0, 1)]
                ends, _ = fit_seeds(own, make_state, keys, train, strategy="map", **options)
                row["mapped"] = compare(arrays, arrays_of(jax.tree.map(lambda x: x[0], ends)))
        except Exception as error:
            row["error"] = describe(error)
        print(output.stem, row, flush=True)
        write_json(output, content)
    return rows


def run(
    output: Path, folder: Path, *, cases: Sequence[tuple[str, Form]], samples: int, seconds: float
) -> dict[str, str]:
    """Runs the six processes and compares them.

    Args:
      output: the JSON file.
      folder: where the processes write.
      cases: nets and forms.
      samples: the samples of an epoch; whole batches of each net.
      seconds: the time for all.

    Returns:
      The errors of the processes, by their names.
    """
    errors = {}

    def part(kind: str, name: str) -> Part:
        variables = cache_variables(folder / f"cache-{kind}-{'b' if name == 'b' else 'a'}")
        variables |= xla_flags(DETERMINISTIC if kind == "flag" else "")
        variables["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # they share the device
        options = {"cases": cases, "samples": samples, "more": name == "again"}
        return Part("determinism", options, folder / f"{kind}-{name}.json", variables)

    for names, share in ((("a", "b"), 0.6), (("again",), 0.4)):
        parts = [part(kind, name) for kind in ("free", "flag") for name in names]
        errors |= run_parts(parts, share * seconds)
    pairs: list[dict[str, Any]] = []
    for kind, other in itertools.product(("free", "flag"), ("b", "again")):
        for i, (net, form) in enumerate(cases):
            files = [folder / f"{kind}-{name}-{i}.npz" for name in ("a", other)]
            if all(file.exists() for file in files):
                pair = {"net": net, "form": form, "processes": [f"{kind}-a", f"{kind}-{other}"]}
                pairs.append(pair | compare(*map(read_arrays, files)))
                print(pairs[-1], flush=True)
    processes = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    content = {"benchmark": "accelerator determinism", "pairs": pairs, "processes": processes}
    write_json(output, content)
    return errors
