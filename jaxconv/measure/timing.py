"""Clocks for measurements that one can trust: steps in the steady state, compile time apart.

How `steady_state` measures, and why:

* JAX returns before the device is done, so every sample ends in `block_until_ready`. If a step is
  short, a sample is a block of steps: a wait after each would add the host's round trip.
* The first calls are slower than the rest (the system maps memory, threads start, clocks rise), so
  the first calls are not measured.
* Other work on the machine makes a sample slower, never faster, by any amount. So the scripts
  report medians, not means, with p95 to show the tail.
* A process keeps its luck (memory layout, neighbours), so its samples predict little about the next
  process: the scripts take the median over several processes, and their range.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.monitoring
import jax.numpy as jnp
from jax.typing import DTypeLike


class CompileWatch:
    """Counts what JAX traces, lowers and compiles inside a `with` block, anywhere in the process.

    Attributes:
      seconds: wall time of tracing, lowering and compiling; overlaps count once.
      compilations: how many programs the backend compiled or took from the persistent cache.
      cached: how many of these came from the persistent cache.

    Example:
      >>> with CompileWatch() as first:
      ...     double = jax.jit(lambda x: 2 * x)
      ...     _ = double(1.0)
      >>> with CompileWatch() as second:
      ...     _ = double(2.0)
      >>> first.compilations, second.compilations
      (1, 0)
    """

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []
        self.compilations = self.cached = 0

    @property
    def seconds(self) -> float:
        total, end = 0.0, float("-inf")
        for begin, stop in sorted(self._spans):  # traces nest: a plain sum would count twice
            total += max(0.0, stop - max(begin, end))
            end = max(end, stop)
        return total

    def __enter__(self) -> "CompileWatch":
        jax.monitoring.register_event_time_span_listener(self._record)
        jax.monitoring.register_event_listener(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_time_span_listener(self._record)
        jax.monitoring.unregister_event_listener(self._count)

    def _record(self, event: str, start_time: float, end_time: float, **_: object) -> None:
        if event.startswith("/jax/core/compile/"):
            self._spans.append((start_time, end_time))
            self.compilations += event.endswith("backend_compile_duration")

    def _count(self, event: str, **_: object) -> None:
        self.cached += event == "/jax/compilation_cache/cache_hits"


class Stopwatch:
    """Wall seconds of a `with` block, with JAX's compilation apart.

    The block must fetch its results: JAX returns before the device is done.

    Attributes:
      seconds: wall seconds of everything but compilation.
      compile_seconds: wall seconds of tracing, lowering and compiling.

    Example:
      >>> with Stopwatch() as watch:
      ...     _ = jax.block_until_ready(jax.jit(lambda x: x + 1)(1.0))
      >>> watch.seconds >= 0, watch.compile_seconds > 0
      (True, True)
    """

    def __init__(self) -> None:
        self._compile = CompileWatch()
        self.seconds = self.compile_seconds = 0.0

    def __enter__(self) -> "Stopwatch":
        self._compile.__enter__()
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        wall = time.perf_counter() - self._began
        self._compile.__exit__()
        self.compile_seconds = self._compile.seconds
        self.seconds = max(0.0, wall - self.compile_seconds)


class Steady(NamedTuple):
    """Seconds per step, sampled in the steady state of one process."""

    samples: tuple[float, ...]
    """Seconds per step, each the mean over the steps of one block."""
    steps: int
    """The number of steps in a block."""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def p95(self) -> float:
        if len(self.samples) == 1:
            return self.samples[0]
        return statistics.quantiles(self.samples, n=20, method="inclusive")[-1]


def steady_state(
    run: Callable[[int], Any],
    *,
    seconds: float = 3.0,
    block_seconds: float = 0.01,
    max_steps: int | None = None,
    warm_up_seconds: float = 1.0,
) -> Steady:
    """Times compiled steps after a warm-up (the module's docstring explains how and why).

    Args:
      run: takes a number of steps, and returns arrays that are ready when all steps are done.
      seconds: how long to take samples; it takes at least 10.
      block_seconds: the least duration of a sample; one step is enough if it lasts longer.
      max_steps: the most steps that `run` can do in one call.
      warm_up_seconds: how long to run unmeasured; it does so at least three times.

    Returns:
      The seconds per step of every sample.

    Example:
      >>> double = jax.jit(lambda x: 2 * x)
      >>> steady = steady_state(lambda n: [double(1.0) for _ in range(n)], seconds=0.01)
      >>> steady.median > 0, steady.p95 >= steady.median, len(steady.samples) >= 10
      (True, True, True)
    """

    def block(steps: int) -> float:
        began = time.perf_counter()
        jax.block_until_ready(run(steps))
        return (time.perf_counter() - began) / steps

    steps, calls, began = 1, 0, time.perf_counter()
    while calls < 3 or time.perf_counter() - began < warm_up_seconds:
        steps = max(1, math.ceil(block_seconds / block(steps)))
        steps, calls = min(steps, max_steps or steps), calls + 1
    samples, began = [], time.perf_counter()
    while len(samples) < 10 or time.perf_counter() - began < seconds:
        samples.append(block(steps))
    return Steady(tuple(samples), steps)


def compile_stages(function: Any, *arguments: Any) -> tuple[jax.stages.Compiled, dict[str, float]]:
    """Compiles a jitted function for some arguments, and times each stage.

    Args:
      function: a function under `jax.jit`.
      *arguments: its arguments, or their `jax.ShapeDtypeStruct`.

    Returns:
      The executable, and the seconds to `trace` (Python to jaxpr), `lower` (jaxpr to StableHLO) and
      `compile` (by XLA, or from the persistent cache).

    Example:
      >>> compiled, seconds = compile_stages(jax.jit(lambda x: x + 1), 1.0)
      >>> float(compiled(1.0)), list(seconds)
      (2.0, ['trace', 'lower', 'compile'])
    """
    clock = [time.perf_counter()]
    traced = function.trace(*arguments)
    clock.append(time.perf_counter())
    lowered = traced.lower()
    clock.append(time.perf_counter())
    compiled = lowered.compile()
    clock.append(time.perf_counter())
    seconds = [after - before for before, after in itertools.pairwise(clock)]
    return compiled, dict(zip(("trace", "lower", "compile"), seconds, strict=True))


def matmul_rate(dtype: DTypeLike, size: int, *, seconds: float = 1.0) -> float:
    """FLOP/s of XLA's own product of two square matrices: the best that this device can do.

    It multiplies at JAX's default precision, as the layers do: some GPUs and TPUs then multiply
    float32 in fewer bits.

    Args:
      dtype: the dtype of both matrices and of the product.
      size: the number of their rows and of their columns.
      seconds: how long to measure.

    Returns:
      Floating-point operations per second.

    Example:
      >>> matmul_rate("float32", 64, seconds=0.01) > 0
      True
    """
    x = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
    product = jax.jit(jnp.matmul)
    steady = steady_state(
        lambda steps: [product(x, x) for _ in range(steps)][-1],
        seconds=seconds,
        warm_up_seconds=seconds / 2,
    )
    return 2 * size**3 / steady.median
