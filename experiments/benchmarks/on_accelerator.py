r"""Measures speed, accuracy, determinism and correctness on a GPU or TPU within a few minutes.

    python experiments/benchmarks/on_accelerator.py --output results
    python experiments/benchmarks/on_accelerator.py --output results --part steps \
        --nets lab6 strided --forms xla patches --batch-sizes 512 2048 --replicas 1 32
    python experiments/benchmarks/on_accelerator.py --output results --tiny

Time on an accelerator is often lent by the minute. Therefore one call measures everything, and
each part writes its figures to OUTPUT as soon as it has them:

* `correctness.json`: gradients of each net in each form, against float64 on the CPU.
* `determinism.json`: an epoch again, in other processes, resumed and mapped, compared bit by bit,
  without and with `--xla_gpu_deterministic_ops`.
* `steps.json`: seconds a train step in a compiled epoch; the options select the cases.
* `steps-deterministic.json`: the same with `--xla_gpu_deterministic_ops`, one replica.
* `accuracy.json`: the notebooks' nets over 32 seeds, vmapped, in the last of `--forms`.

A part is one or more processes with a time limit, its share of the time that is left. A part that
fails or is late harms no other. The exit code is 1 if anything failed.

The script needs jax, flax, optax, numpy and jaxtyping; where you cannot install anything, run
`PYTHONPATH=. python experiments/benchmarks/on_accelerator.py`. `--tiny` rehearses all parts with
two small nets, on any machine. For larger batches `--workers 2` saves memory of the device: XLA
tries its kernels while it compiles.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.accelerator import determinism
from experiments.benchmarks.accelerator.processes import (
    Part,
    cache_variables,
    run_parts,
    xla_flags,
)
from experiments.benchmarks.accelerator.steps import list_cases
from experiments.benchmarks.recipes import NOTEBOOKS
from jaxconv._checks import check_positive
from jaxconv.runs.cli import DETERMINISTIC

SHARES = {"correctness": 2, "determinism": 4, "steps": 4, "steps-deterministic": 2, "accuracy": 4}
"""The parts, in their order, and how they share the time."""
FULL: dict[str, dict[str, Any]] = {
    "correctness": {"samples": 64},
    "determinism": {"samples": 53_760},  # whole batches of every net
    "steps": {"samples": None, "rounds": 5, "block_seconds": 0.08},
    "accuracy": {"seeds": 32},
}
TINY: dict[str, dict[str, Any]] = {
    "correctness": {"samples": 8},
    "determinism": {"samples": 512},
    "steps": {"samples": 1024, "rounds": 2, "block_seconds": 0.01},
    "accuracy": {"seeds": 2, "epochs": 1, "samples": 512},
}


def main(
    output: Path,
    seconds: float = 420.0,
    tiny: bool = False,
    parts: Sequence[str] = tuple(SHARES),
    nets: Sequence[str] | None = None,
    forms: Sequence[str] = ("xla", "patches"),
    batch_sizes: Sequence[int] = (),
    replicas: Sequence[int] | None = None,
    dtypes: Sequence[str] = ("float32",),
    strategy: str = "vmap",
    workers: int = 6,
) -> dict[str, str]:
    """Measures the parts in their order, and returns the errors of those that failed."""
    positive = {"workers": [workers], "batch_sizes": batch_sizes, "replicas": replicas or ()}
    for name, values in positive.items():
        for value in values:
            check_positive(name, value)
    ordered = [part for part in SHARES if part in parts]
    for part in ordered:
        if (output / f"{part}.json").exists():
            raise FileExistsError(f"{output / part}.json is there already: name another --output.")
    output.mkdir(parents=True, exist_ok=True)
    nets = nets or (["dense", "strided"] if tiny else list(NOTEBOOKS))
    replicas = replicas or ([1, 2] if tiny else [1, 32])
    until, errors, sizes = time.perf_counter() + seconds, {}, TINY if tiny else FULL
    with tempfile.TemporaryDirectory() as folder:
        cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", f"{folder}/cache")
        for i, part in enumerate(ordered):
            left = max(1.0, until - time.perf_counter())
            limit = left * SHARES[part] / sum(SHARES[other] for other in ordered[i:])
            print(f"{part}: at most {limit:.0f} s", flush=True)
            path, file = output / f"{part}.json", part.removesuffix("-deterministic")
            options = dict(sizes[file])
            if part == "determinism":
                cases = list_cases(nets, forms, replicas=[1])
                options["cases"] = [(case["net"], case["form"]) for case in cases]
                errors |= determinism.run(path, Path(folder), seconds=limit, **options)
                continue
            flag = "" if part == file else DETERMINISTIC
            if file == "steps":
                counts = [1] if flag else replicas
                options["cases"] = list_cases(nets, forms, batch_sizes, counts, dtypes, strategy)
                options |= {"workers": workers, "seconds": 0.85 * limit}
            elif part == "accuracy":
                options |= {"nets": nets, "form": forms[-1]}
            else:
                options |= {"nets": nets, "workers": workers}
            variables = cache_variables(cache) | xla_flags(flag)
            errors |= run_parts([Part(file, options, path, variables)], limit)
    for name, error in errors.items():
        print(f"{name}: {error}")
    print(f"Results: {output}")
    return errors


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="The folder to write to.")
    parser.add_argument("--seconds", type=float, default=420.0, help="Seconds for all parts (420).")
    parser.add_argument("--tiny", action="store_true", help="Rehearse with small sizes.")
    parser.add_argument(
        "--part", dest="parts", nargs="+", choices=SHARES, default=list(SHARES), help="Parts (all)."
    )
    parser.add_argument("--nets", nargs="+", choices=NOTEBOOKS, help="Nets (all).")
    parser.add_argument(
        "--forms",
        nargs="+",
        choices=("xla", "patches"),
        default=["xla", "patches"],
        help="Forms (both).",
    )
    parser.add_argument(
        "--batch-sizes",
        nargs="+",
        type=int,
        default=[],
        help="Batch sizes of steps (the notebook's).",
    )
    parser.add_argument("--replicas", nargs="+", type=int, help="Replicas of steps (1 32).")
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=("float32", "bfloat16"),
        default=["float32"],
        help="Dtypes (float32).",
    )
    parser.add_argument(
        "--strategy",
        choices=("map", "vmap"),
        default="vmap",
        help="The strategy of replicas (vmap).",
    )
    parser.add_argument("--workers", type=int, default=6, help="Programs to compile at once (6).")
    try:
        failed = main(**vars(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    sys.exit(bool(failed))
