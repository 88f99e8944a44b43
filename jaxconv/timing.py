"""What a measurement needs to be trusted: compile time kept apart, and what it ran on."""

import importlib.metadata
import os
import platform
import time
from pathlib import Path

import jax
import jax.monitoring


class CompileWatch:
    """Counts what JAX traces, lowers and compiles inside a `with` block, anywhere in the process.

    Attributes:
      seconds: wall time of tracing, lowering and compiling; overlaps count once.
      compilations: how many programs the backend compiled or took from the persistent cache.

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
        self.compilations = 0

    @property
    def seconds(self) -> float:
        total, end = 0.0, float("-inf")
        for begin, stop in sorted(self._spans):  # traces nest, so that a plain sum counts twice
            total += max(0.0, stop - max(begin, end))
            end = max(end, stop)
        return total

    def __enter__(self) -> "CompileWatch":
        jax.monitoring.register_event_time_span_listener(self._record)
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_time_span_listener(self._record)

    def _record(self, event: str, start_time: float, end_time: float, **_: object) -> None:
        if event.startswith("/jax/core/compile/"):
            self._spans.append((start_time, end_time))
            self.compilations += event.endswith("backend_compile_duration")


class Stopwatch:
    """Wall seconds of a `with` block, without what JAX compiled in it.

    The block must fetch its results: JAX returns before the device is done.

    Attributes:
      seconds: of everything but compilation.
      compile_seconds: of tracing, lowering and compiling.

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


def process_seconds() -> float | None:
    """Wall seconds since this process was started; None where the system has no `/proc`.

    Example:
      >>> process_seconds() is None or process_seconds() > 0
      True
    """
    stat = Path("/proc/self/stat")
    if not stat.exists():
        return None
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])  # field 22: since boot
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def environment() -> dict[str, str | int]:
    """Backend, device and versions, as they stand in every result.

    Example:
      >>> sorted(environment())[:4]
      ['backend', 'device_count', 'device_kind', 'flax_version']
    """
    versions = {
        f"{name}_version": importlib.metadata.version(name)
        for name in ("jax", "jaxlib", "flax", "optax")
    }
    return {
        "backend": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "python_version": platform.python_version(),
        **versions,
    }
