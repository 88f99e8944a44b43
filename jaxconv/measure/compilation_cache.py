"""JAX's persistent compilation cache, in a folder of the user that fits this machine."""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from jaxconv._checks import check_installed

_FOLDER, _ENABLED = "jax_compilation_cache_dir", "jax_enable_compilation_cache"


def cache_folder() -> str:
    """The folder of compiled programs: `$JAX_COMPILATION_CACHE_DIR`, or one in the user's cache.

    The user's cache has a folder for each jaxlib and each CPU: a compiled program contains
    instructions of the CPU that compiled it, and JAX's key ignores them.

    Source: https://docs.jax.dev/en/latest/persistent_compilation_cache.html
    """
    if configured := getattr(jax.config, _FOLDER):
        return configured
    check_installed("run")
    import platformdirs

    cpuinfo, known = Path("/proc/cpuinfo"), ("model name", "flags", "CPU part", "Features")
    first = cpuinfo.read_text().partition("\n\n")[0] if cpuinfo.exists() else platform.processor()
    lines = [line for line in first.splitlines() if line.startswith(known)] or [first]
    machine = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]
    name = f"jaxlib-{importlib.metadata.version('jaxlib')}-{platform.machine()}-{machine}"
    return str(platformdirs.user_cache_path("jaxconv", appauthor=False) / name)


@contextlib.contextmanager
def persistent_cache(folder: str | None = None) -> Iterator[str]:
    """Stores every program that JAX compiles inside the `with` block, and reads it next time.

    Args:
      folder: the folder of the programs. None takes `cache_folder()`, which must be the user's
        alone: who can write there can run code in the user's processes.
    """
    own = folder is None and not getattr(jax.config, _FOLDER)
    folder, user = folder or cache_folder(), getattr(os, "getuid", lambda: None)()
    if "://" not in folder:
        for made in (Path(folder).parent, Path(folder)) if own else (Path(folder),):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = made.stat()
            if own and user is not None and (status.st_uid != user or status.st_mode & 0o022):
                raise PermissionError(f"Others can write to {made}: delete it, or chmod 700.")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"The folder {folder} cannot be written.")
    quick = "jax_persistent_cache_min_compile_time_secs"  # store what compiles quickly too
    with _options({_FOLDER: folder, quick: 0.0}):
        yield folder


@contextlib.contextmanager
def cache_if_possible(wanted: bool = True) -> Iterator[str | None]:
    """Enables the cache and yields its folder; or prints why not, unless unwanted, yields None."""
    with contextlib.ExitStack() as stack:
        folder = None
        if wanted and not getattr(jax.config, _ENABLED):
            print("Compilation cache: off, because JAX_ENABLE_COMPILATION_CACHE is false")
        elif wanted:
            try:
                folder = stack.enter_context(persistent_cache())
            except (OSError, RuntimeError) as error:  # platformdirs raises the latter: no home
                print(f"Compilation cache: off, {error}")
        if folder is None:
            stack.enter_context(_options({_ENABLED: False}))
        yield folder


@contextlib.contextmanager
def _options(options: dict[str, Any]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        stack.callback(compilation_cache.reset_cache)  # otherwise JAX reads its settings only once
        for name, value in options.items():
            stack.callback(jax.config.update, name, getattr(jax.config, name))
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield
