"""The command line of a script whose settings are a dataclass: options, errors, exit codes."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from jaxconv.runs.signals import Terminated

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
C = TypeVar("C")
_OUT_OF_MEMORY = re.compile("out of memory|RESOURCE_EXHAUSTED", re.IGNORECASE)


def cli(config: type[C], main: Callable[[C], Any], description: str | None) -> None:
    """Runs `main` with the settings of the command line: the entry point of an experiment's script.

    Errors that the user can mend end with a message and exit code 2, a loss that is not finite with
    1, Ctrl-C with 130, SIGTERM with 143. Settings with a field `deterministic` that is true ask XLA
    for deterministic operations on a GPU, before JAX starts.
    """
    with contextlib.suppress(ValueError, AttributeError):  # a user's pipe may be ASCII
        sys.stdout.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        import tyro
    except ModuleNotFoundError:
        if len(sys.argv) > 1:
            print(
                "error: tyro is not installed, so options cannot be read: pip install tyro",
                file=sys.stderr,
            )
            sys.exit(2)
        print("tyro is not installed: running with the defaults.")
        settings = config()  # pyright: ignore[reportCallIssue]
    else:
        settings = tyro.cli(config, description=description, config=(tyro.conf.FlagCreatePairsOff,))
    if getattr(settings, "deterministic", False):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()
    out, err = _Enduring(sys.stdout), _Enduring(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), exit_codes():
        main(settings)


class _Enduring:
    """A stream whose end, a closed pipe or a full disk, ends nothing else."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._told = stream, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._try(self._stream.write, text) or len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except OSError as error:
            if not self._told:
                self._told = True
                with contextlib.suppress(OSError):
                    print(f"WARNING: OUTPUT IS LOST ({error}); the run goes on", file=sys.stderr)
            return None


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Ends the process as a command line does: 2 with a message for bad input, 130 for Ctrl-C.

    A run that came to nothing (FloatingPointError) ends with 1, SIGTERM as `Terminated` with 143.

    Example:
      >>> with exit_codes():
      ...     raise ValueError("epochs must be positive")
      Traceback (most recent call last):
      SystemExit: 2
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        # An orderly exit crashes where XLA is still compiling.
        os._exit(143 if isinstance(interrupt, Terminated) else 130)
    except FloatingPointError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
            raise
        print(
            f"error: This does not fit into memory: {str(error) or 'it is full'} Take a smaller "
            "batch size, image, padding or group of seeds.",
            file=sys.stderr,
        )
        sys.exit(2)
