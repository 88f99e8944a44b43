"""Seconds a train step in a compiled epoch, by net, form, batch size, dtype and replicas.

Threads compile all programs of the list side by side. Then each program runs alone, in rounds over
all of them. A sample is one call that takes many steps and ends when the device is done.
"""

import dataclasses
import functools
import itertools
import math
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxconv
from experiments.benchmarks.accelerator.shared import describe, facts, load_batches
from experiments.benchmarks.keras_nets import SHAPE
from experiments.benchmarks.recipes import NOTEBOOKS, net_of
from jaxconv.measure import compile_stages, peak_memory
from jaxconv.runs import write_json
from jaxconv.training import TrainState, train_epoch_replicas


def list_cases(
    nets: Sequence[str],
    forms: Sequence[str] = ("xla", "patches"),
    batch_sizes: Sequence[int] = (),
    replicas: Sequence[int] = (1, 32),
    dtypes: Sequence[str] = ("float32",),
    strategy: str = "vmap",
) -> list[dict[str, Any]]:
    """The cases to measure, in the order in which they compile; no batch size is the notebook's.

    Example:
      >>> [(case["net"], case["form"]) for case in list_cases(["lab6", "dense"], replicas=[1])]
      [('lab6', 'xla'), ('lab6', 'patches'), ('dense', 'xla')]
    """
    rows = []
    for dtype, size, count, net, form in itertools.product(
        dtypes, batch_sizes or [0], replicas, nets, forms
    ):
        if net == "dense" and form != forms[0]:  # it has no convolution
            continue
        case = {"net": net, "batch_size": size or NOTEBOOKS[net].batch_size, "dtype": dtype}
        case |= {"driver": strategy if count > 1 else "loop", "replicas": count, "form": form}
        rows.append(case)
    return rows


@dataclasses.dataclass
class Program:
    """A compiled epoch with its arguments."""

    compiled: Any
    state: Any
    data: Any
    order: Any
    max_steps: int
    compile_seconds: float

    def seconds_a_step(self, steps: int) -> float:
        """Takes so many steps in one call, and returns the seconds that each took."""
        began = time.perf_counter()
        self.state, _ = jax.block_until_ready(
            self.compiled(self.state, self.data, self.order, 0, steps)
        )
        return (time.perf_counter() - began) / steps


@functools.cache
def first_states(net: str, replicas: int) -> TrainState:
    """Stacked states of so many seeds, on the host and without keys: the CPU compiles quickly."""
    own = net_of(net)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        keys = jax.random.split(jax.random.key(0), replicas)
        states = jax.jit(jax.vmap(lambda key: own.init(key, SHAPE)))(keys)
    return jax.device_get(states._replace(rng=None))


def build(case: dict[str, Any], samples: int | None, latest_start: float) -> Program:
    """Compiles a case.

    Raises:
      TimeoutError: if `time.perf_counter()` has passed `latest_start`.
    """
    if time.perf_counter() > latest_start:
        raise TimeoutError("its turn to compile did not come in time")
    size, count = case["batch_size"], case["replicas"]
    data, _ = load_batches(case["net"], samples)
    steps = len(data["label"]) // size
    if not steps:
        raise ValueError(f"a batch of {size} needs as many samples, not {len(data['label'])}")
    own = net_of(case["net"], form=case["form"], dtype=case["dtype"])
    options: Any = {"train_step": own.train_step, "batch_size": size}
    epoch_fn = functools.partial(jaxconv.train_epoch, **options)
    keys = jax.random.split(jax.random.key(0), count)
    state = first_states(case["net"], count)
    # Whole batches alone, so that the program contains one loop and no partial batch.
    draw = np.random.default_rng(0)
    order = np.stack([draw.permutation(steps * size) for _ in keys]).astype(np.int32)
    if case["driver"] == "loop":
        state, keys, order = jax.tree.map(lambda x: x[0], (state, keys, order))
    else:
        epoch_fn = functools.partial(train_epoch_replicas, strategy=case["driver"], **options)
    state, order = jax.device_put((state._replace(rng=keys), order))
    function = jax.jit(epoch_fn, donate_argnums=0)
    compiled, stages = compile_stages(function, state, data, order, 0, 1)
    return Program(compiled, state, data, order, steps, stages["compile"])


def build_all(
    rows: Sequence[dict[str, Any]], samples: int | None, workers: int, seconds: float
) -> dict[int, Program]:
    """Compiles the cases in threads; a row whose program fails or is late gets an `error`.

    A program may begin to compile in the first three quarters of `seconds`, and must be done at
    their end.
    """
    began, programs = time.perf_counter(), {}
    pool = ThreadPoolExecutor(workers)
    futures = [pool.submit(build, dict(row), samples, began + 0.75 * seconds) for row in rows]
    wait(futures, timeout=seconds)
    for i, (row, future) in enumerate(zip(rows, futures, strict=True)):
        try:
            programs[i] = future.result(timeout=0)
            row["compile_seconds"] = programs[i].compile_seconds
            memory = programs[i].compiled.memory_analysis()
            row["program_bytes"] = getattr(memory, "temp_size_in_bytes", None)
        except TimeoutError as error:
            row["error"] = str(error) or "it did not compile in time"
        except Exception as error:
            row["error"] = describe(error)
    pool.shutdown(wait=False, cancel_futures=True)
    return programs


def measure(
    output: Path,
    *,
    cases: Sequence[dict[str, Any]],
    samples: int | None,
    rounds: int,
    block_seconds: float,
    workers: int,
    seconds: float,
) -> list[dict[str, Any]]:
    """Measures the cases within `seconds`, of which four fifths are for compiling.

    Args:
      output: the JSON file, which is written again after each sample.
      cases: as from `list_cases`.
      samples: how many training samples to use; None for all.
      rounds: samples for each case.
      block_seconds: the least duration of a sample.
      workers: how many programs compile at once.
      seconds: no sample begins later.
    """
    began = time.perf_counter()
    rows = [dict(case) for case in cases]
    content: dict[str, Any] = {"benchmark": "accelerator steps", **facts(), "rows": rows}
    programs = build_all(rows, samples, workers, 0.8 * seconds)
    content["compiled_after_seconds"] = time.perf_counter() - began
    print(f"{len(programs)} of {len(rows)} programs compiled", flush=True)
    write_json(output, content)
    for number, (i, program) in itertools.product(range(rounds), programs.items()):
        row = rows[i]
        late = time.perf_counter() - began > seconds
        if late or "error" in row:
            if "samples" not in row:
                row.setdefault("error", "its turn to run did not come in time")
            continue
        try:
            if number == 0:
                row |= {"steps_a_sample": warm_up(program, block_seconds), "samples": []}
            row["samples"].append(program.seconds_a_step(row["steps_a_sample"]) / row["replicas"])
        except Exception as error:  # such as no memory for a large batch
            row["error"] = describe(error)
            continue
        row["step_seconds"] = statistics.median(row["samples"])
        row["images_per_second"] = row["batch_size"] / row["step_seconds"]
        content |= peak_memory()
        write_json(output, content)
        if number == 0:
            print(format_row(row), flush=True)
    write_json(output, content)
    print("Medians of all rounds", *map(format_row, rows), sep="\n", flush=True)
    return rows


def warm_up(program: Program, block_seconds: float) -> int:
    """Runs a program four times, as the first calls are slower; returns the steps of a sample."""
    steps = 1
    for _ in range(4):
        needed = math.ceil(block_seconds / program.seconds_a_step(steps))
        steps = min(max(1, needed), program.max_steps)
    return steps


def format_row(row: dict[str, Any]) -> str:
    """A row in words: its case, and the milliseconds of one replica's step with their range."""
    case = f"{row['net']}, batch {row['batch_size']}, {row['dtype']}, {row['driver']}"
    case += f" of {row['replicas']}, {row['form']}: "
    if "step_seconds" not in row:
        return case + row.get("error", "not measured")
    low, high = (1e3 * pick(row["samples"]) for pick in (min, max))
    return case + f"{1e3 * row['step_seconds']:.4f} ms ({low:.4f} to {high:.4f})"
