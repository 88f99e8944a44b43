"""Ctrl-C and SIGTERM as exceptions that can wait for a safe moment."""

import contextlib
import gc
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn


class Terminated(KeyboardInterrupt):
    """Raised for SIGTERM, as KeyboardInterrupt is for SIGINT (Ctrl-C)."""


class Interrupts:
    """Raises SIGINT as KeyboardInterrupt and SIGTERM as `Terminated`, in a `with` block.

    Within `held` the first signal waits in `pending`, and the second is raised at once. Ignored
    signals stay ignored. Outside the main thread this does nothing. A signal that arrives in a
    callback of the garbage collector waits as well, since Python would drop the exception there.

    Example:
      >>> with Interrupts() as interrupts, contextlib.suppress(Terminated):
      ...     with interrupts.held():
      ...         signal.raise_signal(signal.SIGTERM)
      ...         print(interrupts.pending.name)
      SIGTERM
    """

    def __init__(self) -> None:
        self.pending: signal.Signals | None = None
        self._held, self._before = False, {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A block that may check `pending` itself; its end raises a signal that still waits."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self.raise_pending()

    def raise_pending(self) -> None:
        """Raises the signal that waits, if any."""
        if self.pending is not None:
            self.raise_for(self.pending)

    def raise_for(self, number: int) -> NoReturn:
        """Raises the signal of this number, which another process may have received."""
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> Any:
        repeated, self.pending = self.pending is not None, self.pending or signal.Signals(number)
        if (repeated or not self._held) and not _in_gc_callback(frame):
            self.raise_pending()
        # A handler must not print. Stderr may be a pipe that the signal has closed.
        with contextlib.suppress(OSError):
            os.write(2, f"\n{self.pending.name}: saving first (again: at once)\n".encode())


def _in_gc_callback(frame: FrameType | None) -> bool:
    """Whether the frame, or one that called it, is a callback of the garbage collector."""
    codes = [getattr(callback, "__code__", None) for callback in gc.callbacks]
    while frame is not None and frame.f_code not in codes:
        frame = frame.f_back
    return frame is not None
