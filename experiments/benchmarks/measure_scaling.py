"""Times data-parallel steps and all-reduces on the processes that this one belongs to.

`scaling.py` starts it under `jaxconv.parallel.launch`, for each case and round. The first process
writes the figures to a file, as the output holds lines of other processes too.

On a CPU two programs with collectives in flight may wait for each other. Therefore each call ends
before the next one begins, and all processes make the same number of calls.
"""

import json
import math
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxconv
from experiments.benchmarks.keras_nets import SHAPE
from experiments.benchmarks.recipes import net_of
from jaxconv import parallel
from jaxconv.measure import environment, persistent_cache
from jaxconv.models import Form
from jaxconv.runs import write_json

REPEATS = 8
"""All-reduces in one program, one after the other: a step starts its program only once."""
BATCHES = 16
Arrays = Sequence[tuple[str, tuple[int, ...]]]
"""Dtypes, as HLO names them, and shapes."""


def all_reduces(hlo: str) -> list[list[tuple[str, tuple[int, ...]]]]:
    """The arrays that each all-reduce of a compiled program adds up.

    Args:
      hlo: its text, `compiled.as_text()`. A loop's body counts once.
    """
    return [
        [
            (dtype, tuple(int(size) for size in sizes.split(",") if size))
            for dtype, sizes in re.findall(r"\b(pred|[a-z]+\d\w*)\[([\d,]*)\]", result)
        ]
        for result in re.findall(r"= (.*?) all-reduce(?:-start)?\(", hlo)
    ]


def array_bytes(dtype: str, shape: Sequence[int]) -> int:
    """The bytes of an array whose dtype is named as in HLO."""
    bits = 8 if dtype == "pred" else int(re.findall(r"\d+", dtype)[0])
    return math.ceil(bits / 8 * math.prod(shape))


def count_arrays(instructions: Sequence[Arrays]) -> dict[str, int]:
    """How many all-reduces there are, how many arrays they have, and the arrays' bytes."""
    arrays = [array for arrays in instructions for array in arrays]
    return {
        "instructions": len(instructions),
        "arrays": len(arrays),
        "bytes": sum(array_bytes(*array) for array in arrays),
    }


def timed(run: Callable[[], Any], seconds: float, repeats: int = 1) -> dict[str, float]:
    """Median and fastest of some calls, as many in every process, one after the other.

    Args:
      run: the function to call.
      seconds: about how long to measure; 5 calls at least.
      repeats: how many times one call does the work.
    """

    def once() -> float:
        began = time.perf_counter()
        jax.block_until_ready(run())
        return (time.perf_counter() - began) / repeats

    first = repeats * statistics.median(once() for _ in range(3))
    calls = parallel.all_max(max(5, math.ceil(seconds / first)))
    for _ in range(calls // 4):  # unmeasured: the first calls are slower than the rest
        once()
    samples = [once() for _ in range(calls)]
    return {"seconds": statistics.median(samples), "fastest": min(samples)}


def timed_reduce(arrays: Arrays, mesh: Mesh, seconds: float) -> dict[str, float]:
    """Times how the devices add up these arrays; each device has its own."""
    (axis,) = mesh.axis_names
    divided = NamedSharding(mesh, PartitionSpec(axis))
    dtypes = {"f": jnp.float32, "s": jnp.int32}

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=PartitionSpec(axis), out_specs=PartitionSpec(axis))
    def repeated(xs: Any) -> Any:
        # Each sum depends on the last one, and differs between devices as far as XLA knows.
        def again(_: Any, sums: Any) -> Any:
            return jax.tree.map(jnp.add, xs, lax.psum(sums, axis))

        return lax.fori_loop(0, REPEATS, again, xs)

    def zeros() -> Any:
        return [jnp.zeros((mesh.size, *shape), dtypes[dtype[0]]) for dtype, shape in arrays]

    xs = jax.block_until_ready(jax.jit(zeros, out_shardings=divided)())
    return timed(lambda: repeated(xs), seconds, REPEATS)


def compiled_step(
    net: str, batch_size: int, form: Form | None, mesh: Mesh
) -> tuple[Any, Any, list[Any]]:
    """The compiled step, and the state and some global batches, placed on the mesh."""
    own_net = net_of(net, form=form)
    step = parallel.data_parallel(own_net.train_step, mesh)
    state = parallel.replicate(own_net.init(jax.random.key(0), SHAPE), mesh)
    train, rows = jaxconv.load_dataset("mnist").train.batch(), parallel.process_rows
    own, batches = rows(batch_size, mesh), []
    for start in range(0, BATCHES * batch_size, batch_size):
        here = slice(start + own.start, start + own.stop)
        part = {name: x[here] for name, x in train.items()}
        batches.append(parallel.global_batch(part, batch_size, mesh))
    compiled = jax.jit(step, donate_argnums=0).lower(state, batches[0]).compile()
    return compiled, state, jax.block_until_ready(batches)


def measure_step(net: str, batch_size: int, mesh: Mesh, seconds: float) -> dict[str, Any]:
    """Times one train step on a global batch, and its all-reduces alone."""
    compiled, state, batches = compiled_step(net, batch_size, None, mesh)
    calls = 0

    def run() -> Any:
        nonlocal state, calls
        state, sums = compiled(state, batches[calls % len(batches)])
        calls += 1
        return state, sums

    found = all_reduces(compiled.as_text())
    arrays = [array for arrays in found for array in arrays]
    report: dict[str, Any] = {**timed(run, seconds), **count_arrays(found)}
    if mesh.size > 1:
        report["reduce"] = timed_reduce(arrays, mesh, seconds)
    return report


def main(case: str, output: str) -> None:
    """Measures `{"seconds": .., "floats": [..]}` or `{.., "net": .., "batches": [..]}`."""
    parallel.initialize()
    mesh, given = parallel.data_mesh(), json.loads(case)
    seconds, report = given["seconds"], {}
    with persistent_cache():
        if "net" in given:
            for size in given["batches"]:
                report[str(size)] = measure_step(given["net"], size, mesh, seconds)
                if given.get("count"):
                    compiled, *_ = compiled_step(given["net"], size, "xla", mesh)
                    report[str(size)]["xla"] = count_arrays(all_reduces(compiled.as_text()))
            state = net_of(given["net"]).init(jax.random.key(0), SHAPE)
            report["params"] = sum(x.size for x in jax.tree.leaves(state.params))
        else:
            for size in given["floats"]:
                report[str(size)] = timed_reduce([("f32", (size,))], mesh, seconds)
    if parallel.is_first():
        write_json(Path(output), {**report, "environment": environment()})


if __name__ == "__main__":
    main(*sys.argv[1:])
