"""Shows where the time of a train step goes: the operations of the compiled epoch, by layer.

    python experiments/benchmarks/profile_step.py lab6
    python experiments/benchmarks/profile_step.py strided --operations

The script runs some steps of `train_epoch` under `jax.profiler`, and joins the events of the trace
to the operations of the compiled program. For each part of the step it prints the number of
operations, the time that they take, and the time that they would take at best: products at the
speed of XLA's own product of two 2048 × 2048 matrices, all others at the speed of a plain pass over
an array that does not fit a core's cache (bytes read and written).

It is written for XLA's CPU backend. Operations may overlap, so that the parts can add up to more
than the step; in the time that no operation covers, XLA hands work from thread to thread.
--operations lists each operation instead.

It needs jax, flax, optax, numpy and jaxtyping. It writes no file.
"""

import argparse
import collections
import functools
import glob
import math
import re
import tempfile
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.profiler import ProfileData

import jaxconv
from experiments.benchmarks.keras_nets import SHAPE
from experiments.benchmarks.recipes import NOTEBOOKS, net_of
from jaxconv._checks import check_choice, check_positive
from jaxconv.measure import matmul_rate, steady_state

SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f64": 8, "s64": 8, "u64": 8}
CONTAINERS = ("while", "call", "conditional", "tuple", "parameter", "get-tuple-element")


class Operation(NamedTuple):
    """One instruction of a compiled program."""

    part: str
    """The layer and the direction, or the function that it comes from."""
    shape: str
    flops: float
    """Those of a product of two matrices; otherwise 0."""
    bytes: int
    """Bytes read and written, if every operand is read once."""


def operations(program: str) -> dict[str, Operation]:
    """The instructions in the text of a compiled program that do work, by name."""
    line = r"^\s*(?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)(.*)$"
    found = re.findall(line, program, re.MULTILINE)
    shapes = {name: shape for name, shape, *_ in found}
    result = {}
    for name, shape, kind, arguments, rest in found:
        if kind in CONTAINERS:
            continue
        operands = [shapes[x] for x in re.findall(r"%([\w.\-]+)", arguments) if x in shapes]
        matrices = len(operands) == 2 and all(x.count(",") == 2 for x in (shape, *operands))
        sizes = [elements for x in (shape, *operands) for _, elements in arrays(x)]
        product = matrices and (kind == "dot" or "ynn_fusion" in name)
        metadata = re.search(r'op_name="([^"]*)"', rest)
        result[name] = Operation(
            part=part_of(metadata[1] if metadata else ""),
            shape=re.sub(r"\{.*", "", shape),
            # rows·inner, inner·columns and rows·columns elements: their product is the square.
            flops=2 * math.sqrt(math.prod(sizes)) if product else 0.0,
            bytes=sum(map(size, (shape, *operands))),
        )
    return result


def arrays(shape: str) -> list[tuple[str, int]]:
    """Type and elements of each array in a shape as XLA writes it: `f32[64,10]{1,0}`, a tuple."""
    found = re.findall(r"(\w+)\[([\d,]*)\]", shape)
    return [(kind, math.prod(int(n) for n in inside.split(",") if n)) for kind, inside in found]


def size(shape: str) -> int:
    """Bytes of a shape."""
    return sum(SIZES.get(kind, 4) * elements for kind, elements in arrays(shape))


def part_of(name: str) -> str:
    """The part of the step that an operation's `op_name` names."""
    layer = re.search(r"ConvNet\)*/(\w+)/", name)
    if layer:
        return f"{layer.group(1)}, {'backward' if 'transpose(' in name else 'forward'}"
    if "ConvNet" in name:
        return "joining parts"
    if "jvp" in name:
        return "scaling, loss and metrics"
    return "batch" if name.endswith("gather") else "optimizer and the rest"


def seconds_by_operation(run: Any) -> collections.Counter[str]:
    """Traces `run()`: the duration of all events, summed by name."""
    total: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        for plane in ProfileData.from_file(path).planes:
            for line in plane.lines:
                for event in line.events:
                    total[event.name] += event.duration_ns * 1e-9
    return total


def copy_rate() -> float:
    """Bytes a second, read and written, of a pass over 8 MiB."""
    x = jnp.zeros(2**21, jnp.float32)
    passes = jax.jit(lambda x, n: jax.lax.fori_loop(0, n, lambda _, x: x + 1, x))
    steady = steady_state(lambda n: passes(x, n), seconds=1.0, block_seconds=0.1)
    return 2 * x.nbytes / steady.median


def report(
    found: Mapping[str, Operation],
    seconds: Mapping[str, float],
    flops_per_second: float,
    bytes_per_second: float,
    each: bool,
) -> str:
    """The Markdown table of the parts, or of each operation, in milliseconds."""
    rows: dict[str, list[float]] = collections.defaultdict(lambda: [0, 0.0, 0.0, 0.0])
    for name, operation in found.items():
        if name in seconds:
            row = rows[f"{operation.part}: {name} {operation.shape}" if each else operation.part]
            row[0] += 1
            row[1] += 1e3 * operation.flops / flops_per_second
            row[2] += 0 if operation.flops else 1e3 * operation.bytes / bytes_per_second
            row[3] += 1e3 * seconds[name]
    lines = ["| part | operations | products at best, ms | passes at best, ms | takes, ms |"]
    lines.append("|---" * 5 + "|")
    for part, row in sorted(rows.items(), key=lambda item: -item[1][3]):
        lines.append(f"| {part} | {row[0]:.0f} | {row[1]:.2f} | {row[2]:.2f} | {row[3]:.2f} |")
    total = [sum(row[i] for row in rows.values()) for i in range(4)]
    lines.append(f"| all | {total[0]:.0f} | {total[1]:.2f} | {total[2]:.2f} | {total[3]:.2f} |")
    return "\n".join(lines)


def main(net: str, steps: int = 100, each: bool = False) -> str:
    check_choice("net", net, NOTEBOOKS)
    check_positive("steps", steps)
    notebook, data = NOTEBOOKS[net], jaxconv.load_dataset("mnist").train
    own = net_of(net)
    state = own.init(jax.random.key(0), SHAPE)
    samples = steps * notebook.batch_size
    if samples > len(data):
        raise ValueError(f"steps must be at most {len(data) // notebook.batch_size}, not {steps}.")
    batch = jax.device_put(jax.tree.map(lambda x: x[:samples], data.batch()))
    order = jaxconv.epoch_permutation(state.rng, 0, samples)
    epoch = functools.partial(
        jaxconv.train_epoch, train_step=own.train_step, batch_size=notebook.batch_size
    )
    compiled = jax.jit(epoch).lower(state, batch, order, 0, steps).compile()

    def run() -> None:
        jax.block_until_ready(compiled(state, batch, order, 0, steps))

    run()
    began = time.perf_counter()
    run()
    step = (time.perf_counter() - began) / steps
    seconds = {name: total / steps for name, total in seconds_by_operation(run).items()}
    found, rates = operations(compiled.as_text() or ""), (matmul_rate("float32", 2048), copy_rate())
    text = report(found, seconds, *rates, each)
    print(f"{net}, batch {notebook.batch_size}: {1e3 * step:.2f} ms a step;", end=" ")
    print(f"products at {1e-9 * rates[0]:.0f} GFLOP/s, passes at {1e-9 * rates[1]:.0f} GB/s\n")
    print(text)
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("net", choices=NOTEBOOKS, help="The net.")
    parser.add_argument("--steps", type=int, default=100, help="Steps in the trace (100).")
    parser.add_argument("--operations", action="store_true", help="List every operation.")
    given = parser.parse_args()
    main(given.net, given.steps, given.operations)
