"""The seconds of a run, by the names of its parts."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator

from jaxconv.measure.timing import CompileWatch, Stopwatch


class Clock:
    """Measures the parts of a run, and counts the programs that JAX compiles meanwhile.

    A part within another one counts for itself alone. Use it in a `with` block.

    Attributes:
      seconds: wall seconds by name, without compilation.
      compile_seconds: wall seconds of tracing, lowering and compiling in all parts.
      programs: the programs since the block began.

    Example:
      >>> with Clock() as clock:
      ...     with clock("fit"), clock("report"):
      ...         pass
      >>> sorted(clock.seconds)
      ['fit', 'report']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.compile_seconds = 0.0
        self.programs = CompileWatch()
        self._began = time.perf_counter()
        self._inner = [0.0]

    def __enter__(self) -> "Clock":
        self.programs.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.programs.__exit__()

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measures the block as a part of this name."""
        self._inner.append(0.0)
        watch = Stopwatch()
        try:
            with watch:
                yield
        finally:
            self.seconds[name] += max(0.0, watch.seconds - self._inner.pop())
            self._inner[-1] += watch.seconds
            if len(self._inner) == 1:
                self.compile_seconds += watch.compile_seconds

    @property
    def total(self) -> float:
        """Wall seconds since the clock was made."""
        return time.perf_counter() - self._began
