"""The command line of a script: options from a dataclass, error messages, exit codes."""

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


def cli(config_class: type[C], main: Callable[[C], Any], description: str | None) -> None:
    """Runs `main` with the settings of the command line: the entry point of an experiment's script.

    Errors that the user can correct end with a message and exit code 2, a loss that is not finite
    with 1, Ctrl-C with 130, SIGTERM with 143. A true field `deterministic` asks XLA for
    deterministic operations on a GPU, before JAX starts.

    Args:
      config_class: a dataclass; its fields are the options, their docstrings the help.
      main: receives an instance of it.
      description: the help text above the options.
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
        config = config_class()  # pyright: ignore[reportCallIssue]
    else:
        options = (tyro.conf.FlagCreatePairsOff,)
        config = tyro.cli(config_class, description=description, config=options)
    if getattr(config, "deterministic", False):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()
    out, err = _Enduring(sys.stdout), _Enduring(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), exit_codes():
        main(config)


class _Enduring:
    """Wraps a stream so that a closed pipe or a full disk does not end the run."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._warned = stream, False

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
            if not self._warned:
                self._warned = True
                with contextlib.suppress(OSError):
                    print(f"WARNING: OUTPUT IS LOST ({error}); the run goes on", file=sys.stderr)
            return None


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Turns exceptions into exit codes: 2 and a message for bad input, 130 for Ctrl-C.

    A loss that is not finite (FloatingPointError) ends with 1, SIGTERM (`Terminated`) with 143.

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
        # sys.exit would crash while XLA is compiling.
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
