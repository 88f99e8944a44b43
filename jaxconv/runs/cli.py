"""The command line of a script: options from a dataclass, error messages, exit codes."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from jaxconv._checks import check_installed
from jaxconv.parallel import check_backend

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
C = TypeVar("C")
_OUT_OF_MEMORY = re.compile("out of memory|RESOURCE_EXHAUSTED", re.IGNORECASE)


def cli(config: type[C] | C, main: Callable[[C], Any], description: str | None) -> None:
    """Runs `main` with the settings of the command line: the entry point of an experiment's script.

    Errors that the user can correct end with a message and exit code 2, a loss that is not finite
    or a test accuracy below the setting `target_accuracy` with 1, Ctrl-C with 130, SIGTERM with
    143, SIGHUP with 129; if nobody reads stdout any more, the program ends quietly. The setting
    `deterministic` asks XLA for deterministic operations on a GPU, before JAX starts.

    Args:
      config: a dataclass, or an instance that holds the defaults. Its fields are the options, flat
        also where they are nested, and their docstrings the help.
      main: receives an instance.
      description: the help text above the options.
    """
    with exit_codes():
        check_installed("run")
        given = _read(config, description)
        if getattr(getattr(given, "parallel", given), "deterministic", False):
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()
        result = main(given)
        target = getattr(getattr(given, "run", given), "target_accuracy", None)
        if target is not None:
            check_target(result, target)


def check_target(result: Any, target: float) -> None:
    """Ends the program with exit code 1 if the test accuracy of a result is below the target.

    Example:
      >>> check_target({"test_accuracy": 0.9737}, 0.97)
    """
    found = result["test_accuracy"]
    if found is None or found < target:  # None if every seed diverged
        print(f"error: The test accuracy, {found}, is below the target, {target}.", file=sys.stderr)
        sys.exit(1)


def _read(config: type[C] | C, description: str | None) -> C:
    import tyro

    for argument in sys.argv[1:]:  # Python would read 4300 digits, and not more
        if digits := re.search(r"\d{1000,}", argument):
            raise ValueError(
                f"{argument[:20]}... has a number of {len(digits[0])} digits: take a smaller one."
            )
    whole: Any = config if isinstance(config, type) else type(config)
    default: dict[str, Any] = {} if isinstance(config, type) else {"default": config}
    options = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
    return tyro.cli(whole, description=description, config=options, **default)


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Turns exceptions into exit codes: 2 and a message for bad input, 130 for Ctrl-C.

    A loss that is not finite (FloatingPointError) ends with 1, SIGTERM with 143, SIGHUP with 129. A
    stdout or stderr that was closed before the program began (`>&-`) is replaced by one to nowhere.

    Example:
      >>> with exit_codes():
      ...     raise ValueError("epochs must be positive")
      Traceback (most recent call last):
      SystemExit: 2
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    with contextlib.suppress(ValueError, AttributeError):  # a user's pipe may be ASCII
        sys.stdout.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        try:
            yield
            sys.stdout.flush()
        except SystemExit:  # as after --help
            sys.stdout.flush()
            raise
        except (AssertionError, RuntimeError):
            check_backend()  # JAX raises these if it has no device
            raise
    except KeyboardInterrupt as interrupt:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        # sys.exit would crash while XLA is compiling.
        os._exit(getattr(interrupt, "exit_code", 130))
    except BrokenPipeError:  # nobody reads stdout, such as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes stdout at its end
        sys.exit(141)
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
