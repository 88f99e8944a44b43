"""JAX's persistent compilation cache, in a private folder of the user that fits this machine."""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

_FOLDER, _ENABLED = "jax_compilation_cache_dir", "jax_enable_compilation_cache"


def cache_folder() -> str:
    """The folder of compiled programs: `$JAX_COMPILATION_CACHE_DIR`, or one in the user's cache.

    The user's cache (`$XDG_CACHE_HOME`, `~/.cache`) has one folder for each jaxlib and each kind
    of CPU: a compiled program contains the instructions of the CPU that compiled it, JAX's key
    ignores them, and different machines may share a home folder.

    Raises:
      OSError: if the user has no home folder.

    Example:
      >>> "jaxlib" in cache_folder() or cache_folder() == jax.config.jax_compilation_cache_dir
      True

    Source: https://docs.jax.dev/en/latest/persistent_compilation_cache.html
    """
    configured = getattr(jax.config, _FOLDER)
    if configured:
        return configured
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not home.is_absolute():  # unset, or one that the XDG specification ignores
        try:
            home = Path.home() / ".cache"
        except RuntimeError as error:
            raise OSError(f"{error} Set XDG_CACHE_HOME.") from None
    machine = hashlib.sha256(_cpu().encode()).hexdigest()[:8]
    jaxlib = importlib.metadata.version("jaxlib")
    return str(home / "jaxconv" / f"jaxlib-{jaxlib}-{platform.machine()}-{machine}")


@contextlib.contextmanager
def persistent_cache(folder: str | None = None) -> Iterator[str]:
    """Stores every program that JAX compiles inside the `with` block, and reads it next time.

    JAX reads a program that any process compiled before instead of compiling it. It is the very
    same program: not a bit of a result changes. `JAX_ENABLE_COMPILATION_CACHE=false` turns it off.
    If JAX warns of a program that it cannot read, the end of the block deletes all damaged
    programs in the folder and warns with their names.

    Args:
      folder: the folder of the programs. None takes `cache_folder()` and creates it for the user
        alone: anyone who can write there can run code in the user's processes.

    Yields:
      The folder.

    Raises:
      OSError: if the folder cannot be created or written, or others can write to the user's own.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as mine, persistent_cache(mine) as folder:
      ...     _ = jax.jit(lambda x: x * 3)(1.0)
      ...     any("lambda" in name for name in os.listdir(folder))
      True
    """
    if folder is None:
        folder = cache_folder()
        if folder != getattr(jax.config, _FOLDER):
            _make_private(Path(folder))
    if "://" not in folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"The folder {folder} cannot be written.")
    options = {
        _FOLDER: folder,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    with _jax_options(options), _warned("reading persistent compilation cache") as warned:
        yield folder
    if warned:
        for name in delete_damaged(folder):
            warnings.warn(f"Deleted {name} from {folder}: it was damaged.", stacklevel=3)


def no_persistent_cache() -> contextlib.AbstractContextManager[None]:
    """Compiles every program anew inside the `with` block, whatever the environment asks for.

    Example:
      >>> with no_persistent_cache():
      ...     cache_allowed()
      False
    """
    return _jax_options({_ENABLED: False})


def cache_allowed() -> bool:
    """Whether the user allows a persistent cache: not if `JAX_ENABLE_COMPILATION_CACHE=false`.

    Example:
      >>> with no_persistent_cache():
      ...     cache_allowed()
      False
    """
    return getattr(jax.config, _ENABLED)


@contextlib.contextmanager
def cache_if_possible(wanted: bool = True) -> Iterator[str | None]:
    """Enables JAX's persistent cache if it can; prints the reason if not.

    Args:
      wanted: False compiles every program anew, without a message.

    Yields:
      The folder, or None without a cache.

    Example:
      >>> with cache_if_possible(wanted=False) as folder:
      ...     print(folder)
      None
    """
    with contextlib.ExitStack() as stack:
        if wanted and not cache_allowed():
            print("Compilation cache: off, because JAX_ENABLE_COMPILATION_CACHE is false")
        elif wanted:
            try:
                folder = stack.enter_context(persistent_cache())
            except OSError as error:
                print(f"Compilation cache: off, {error}")
            else:
                yield folder
                return
        stack.enter_context(no_persistent_cache())
        yield None


def delete_damaged(folder: str) -> list[str]:
    """Deletes the unreadable programs in a cache.

    A process that dies or runs out of disk space while it writes leaves half a program. JAX warns
    of it and compiles anew, but does not replace it.

    Args:
      folder: the folder of the cache.

    Returns:
      The names of the deleted files.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as mine:
      ...     _ = Path(mine, "jit_half-cache").write_bytes(b"half")
      ...     delete_damaged(mine)
      ['jit_half-cache']
    """
    damaged = []
    for path in sorted(Path(folder).glob("*-cache")):
        with contextlib.suppress(OSError):  # another process' business
            try:
                _check_readable(path.read_bytes())
            except zlib.error:
                path.unlink()
                damaged.append(path.name)
    return damaged


def _check_readable(program: bytes) -> None:
    """Raises zlib.error for a damaged program; JAX compresses by zstandard if it is installed."""
    if not program.startswith(b"\x28\xb5\x2f\xfd"):
        zlib.decompress(program)
        return
    try:
        import zstandard  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        return
    try:
        zstandard.ZstdDecompressor().decompress(program)
    except zstandard.ZstdError as error:
        raise zlib.error(str(error)) from None


def _make_private(folder: Path) -> None:
    for made in (folder.parent, folder):
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = made.stat()
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
            raise PermissionError(
                f"Other users can write to {made}, and so run code in your processes: delete it, "
                "or make it yours alone (chmod 700)."
            )


@contextlib.contextmanager
def _warned(text: str) -> Iterator[list[str]]:
    """Yields a list that collects the warnings with this text; all warnings still pass."""
    seen, show = [], warnings.showwarning

    def note(message: Any, *rest: Any, **more: Any) -> None:
        seen.extend([str(message)] if text in str(message) else [])
        show(message, *rest, **more)

    with warnings.catch_warnings():
        warnings.showwarning = note
        yield seen


@contextlib.contextmanager
def _jax_options(options: dict[str, Any]) -> Iterator[None]:
    before = {name: getattr(jax.config, name) for name in options}
    try:
        _update(options)
        yield
    finally:
        _update(before)


def _update(options: dict[str, Any]) -> None:
    for name, value in options.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # otherwise JAX reads its settings only once


def _cpu() -> str:
    """A text that differs if the instruction sets of two CPUs differ."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    first = cpuinfo.read_text().partition("\n\n")[0].splitlines()
    fields = (line.partition(":") for line in first)
    known = ("model name", "flags", "CPU implementer", "CPU part", "Features")  # x86; Arm
    return "\n".join(value for name, _, value in fields if name.strip() in known)
