"""JAX's persistent compilation cache, in a folder of the user's own that fits this machine."""

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
    """Where compiled programs are kept: `$JAX_COMPILATION_CACHE_DIR`, or in the user's cache.

    In the user's cache (`$XDG_CACHE_HOME`, `~/.cache`) it is one folder for each jaxlib and each
    kind of CPU: a compiled program has the instructions of the CPU that it was compiled on, JAX'
    key knows nothing of them, and a home folder may be shared by machines that differ.

    Raises:
      OSError: if the user has no home folder.

    Example:
      >>> "jaxlib" in cache_folder() or cache_folder() == jax.config.jax_compilation_cache_dir
      True

    Source: https://docs.jax.dev/en/latest/persistent_compilation_cache.html
    """
    told = getattr(jax.config, _FOLDER)
    if told:
        return told
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not home.is_absolute():  # unset, or to be ignored by the XDG specification
        try:
            home = Path.home() / ".cache"
        except RuntimeError as error:
            raise OSError(f"{error} Set XDG_CACHE_HOME.") from None
    machine = hashlib.sha256(_cpu().encode()).hexdigest()[:8]
    jaxlib = importlib.metadata.version("jaxlib")
    return str(home / "jaxconv" / f"jaxlib-{jaxlib}-{platform.machine()}-{machine}")


@contextlib.contextmanager
def persistent_cache(folder: str | None = None) -> Iterator[str]:
    """Keeps what JAX compiles inside the `with` block, however quickly, and takes it from there.

    A program that was compiled before, by any process, is read instead. What is read is the very
    same program: not a bit of a result changes. `JAX_ENABLE_COMPILATION_CACHE=false` prevails.
    If JAX warns of a program that it cannot read, what is damaged in the folder is deleted at the
    end, with a warning that names it.

    Args:
      folder: where to; `cache_folder()` if None, which is made for the user alone: who can write
        there can run code in the user's processes.

    Yields:
      The folder.

    Raises:
      OSError: if the folder cannot be made or written, or the user's own can be by others.

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
    settings = {
        _FOLDER: folder,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    with _settings(settings), _warned("reading persistent compilation cache") as warned:
        yield folder
    if warned:
        for name in delete_damaged(folder):
            warnings.warn(f"Deleted {name} from {folder}: it was damaged.", stacklevel=3)


def no_persistent_cache() -> contextlib.AbstractContextManager[None]:
    """Compiles everything anew inside the `with` block, whatever the environment says.

    Example:
      >>> with no_persistent_cache():
      ...     cache_allowed()
      False
    """
    return _settings({_ENABLED: False})


def cache_allowed() -> bool:
    """Whether the user allows a persistent cache: not if `JAX_ENABLE_COMPILATION_CACHE=false`.

    Example:
      >>> with no_persistent_cache():
      ...     cache_allowed()
      False
    """
    return getattr(jax.config, _ENABLED)


@contextlib.contextmanager
def cache_unless(unwanted: bool) -> Iterator[str | None]:
    """The persistent cache, or none where it is unwanted, forbidden or cannot be, which is said.

    Yields:
      The folder, or None.

    Example:
      >>> with cache_unless(True) as folder:
      ...     print(folder)
      None
    """
    with contextlib.ExitStack() as stack:
        if not unwanted and not cache_allowed():
            print("Compilation cache: off, JAX_ENABLE_COMPILATION_CACHE says so")
        elif not unwanted:
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
    """Deletes the programs in a cache that cannot be read, and returns their names.

    A process that is killed or finds no room while it writes leaves half a program. JAX warns of it
    and compiles anew, but does not replace it.

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
    """Raises zlib.error for what is damaged; JAX compresses by zstandard where it is installed."""
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
                f"Others than you can write to {made}, and so run code in your processes: delete "
                "it, or make it yours alone (chmod 700)."
            )


@contextlib.contextmanager
def _warned(text: str) -> Iterator[list[str]]:
    """Lets warnings pass, and yields those that were given with this text in them."""
    seen, show = [], warnings.showwarning

    def note(message: Any, *rest: Any, **more: Any) -> None:
        seen.extend([str(message)] if text in str(message) else [])
        show(message, *rest, **more)

    with warnings.catch_warnings():
        warnings.showwarning = note
        yield seen


@contextlib.contextmanager
def _settings(settings: dict[str, Any]) -> Iterator[None]:
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        _update(settings)
        yield
    finally:
        _update(before)


def _update(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # JAX looks at its settings once a process otherwise


def _cpu() -> str:
    """What tells the instruction sets of two CPUs apart."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    first = cpuinfo.read_text().partition("\n\n")[0].splitlines()
    fields = (line.partition(":") for line in first)
    known = ("model name", "flags", "CPU implementer", "CPU part", "Features")  # x86; Arm
    return "\n".join(value for name, _, value in fields if name.strip() in known)
