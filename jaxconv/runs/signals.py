"""Ctrl-C, SIGTERM and SIGHUP as exceptions that can wait for a safe moment."""

import contextlib
import gc
import os
import select
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn


class Terminated(KeyboardInterrupt):
    """Raised for SIGTERM, as KeyboardInterrupt is for SIGINT (Ctrl-C)."""

    exit_code = 128 + 15


class HungUp(Terminated):
    """Raised for SIGHUP: the terminal was closed, or its connection lost."""

    exit_code = 128 + 1


_SIGHUP = getattr(signal, "SIGHUP", None)  # Windows has none
_RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
if _SIGHUP is not None:
    _RAISED[_SIGHUP] = HungUp


class Interrupts:
    """Raises SIGINT as KeyboardInterrupt, SIGTERM and SIGHUP as `Terminated`, in a `with` block.

    Within `held` the first signal waits in `pending`, and the second is raised at once, unless
    either is a SIGHUP: a terminal that closes and a logout send several signals. Ignored signals
    stay ignored, as SIGHUP under nohup. Outside the main thread this does nothing. A signal that
    arrives in a callback of the garbage collector waits as well, since Python would drop the
    exception there.

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
            for number in _RAISED:
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
        _drop_dead_outputs()
        raise _RAISED[signal.Signals(number)]

    def _handle(self, number: int, frame: FrameType | None) -> Any:
        if number == _SIGHUP and self.pending is not None:
            return  # the kernel and the shell each send one, systemd after SIGTERM
        repeated = self.pending not in (None, _SIGHUP)
        if not repeated:
            self.pending = signal.Signals(number)
        if (repeated or not self._held) and not _in_gc_callback(frame):
            self.raise_pending()
        _drop_dead_outputs()
        # A handler must not print. Stderr may be a pipe that the signal has closed.
        with contextlib.suppress(OSError):
            os.write(
                2, f"\n{signal.Signals(number).name}: saving first (again: at once)\n".encode()
            )


def _drop_dead_outputs() -> None:
    """Sends stdout and stderr nowhere if the signal also ended their terminal or reader.

    Otherwise the next print would end the run, before it saves.
    """
    for descriptor in (1, 2) if hasattr(select, "poll") else ():
        outputs = select.poll()
        outputs.register(descriptor, 0)
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in outputs.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _in_gc_callback(frame: FrameType | None) -> bool:
    """Whether the frame, or one that called it, is a callback of the garbage collector."""
    codes = [getattr(callback, "__code__", None) for callback in gc.callbacks]
    while frame is not None and frame.f_code not in codes:
        frame = frame.f_back
    return frame is not None
