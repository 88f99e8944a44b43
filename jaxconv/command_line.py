"""The command line of a script whose settings are a dataclass: options, errors, exit codes."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

C = TypeVar("C")


def cli(config: type[C], main: Callable[[C], Any], description: str | None) -> None:
    """Runs `main` with the settings of the command line: the entry point of an experiment's script.

    Errors that the user can mend end with a message and exit code 2, Ctrl-C with 130.
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
    with exit_codes():
        main(settings)


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Ends the process as a command line does: 2 with a message for bad input, 130 for Ctrl-C.

    Example:
      >>> with exit_codes():
      ...     raise ValueError("epochs must be positive")
      Traceback (most recent call last):
      SystemExit: 2
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.stdout.flush()
        os._exit(130)  # an orderly exit crashes where XLA is still compiling
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
