import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib.version
import pytest

from jaxconv.measure import compilation_cache
from jaxconv.measure.compilation_cache import (
    cache_folder,
    cache_if_possible,
    delete_damaged,
    no_persistent_cache,
    persistent_cache,
)
from jaxconv.measure.timing import CompileWatch

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


def value_and_watch(folder: Path) -> tuple[float, CompileWatch]:
    """Runs a program that the cache in the folder may have."""
    x = jnp.ones(3)
    with persistent_cache(str(folder)), CompileWatch() as watch:
        return float(jax.jit(lambda x: (5 * x).sum())(x)), watch


def test_the_folder_lies_in_the_users_cache_and_fits_the_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = Path(cache_folder())
    assert folder.parent == tmp_path / "jaxconv"
    assert folder.name.startswith(f"jaxlib-{jaxlib.version.__version__}-")
    monkeypatch.setattr(compilation_cache, "_cpu", lambda: "another CPU")
    assert Path(cache_folder()).parent == folder.parent
    assert cache_folder() != str(folder)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder().startswith("/home/somebody/.cache/jaxconv/jaxlib-")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder().startswith("/home/somebody/.cache/jaxconv/jaxlib-")


def test_a_user_without_a_home_must_set_the_cache_home(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(compilation_cache.Path, "home", home)
    with pytest.raises(OSError, match=r"Could not determine home directory. Set XDG_CACHE_HOME"):
        cache_folder()


def test_the_users_folder_is_private(tmp_path, monkeypatch):
    folder = tmp_path / "jaxconv" / "jaxlib"
    monkeypatch.setattr(compilation_cache, "cache_folder", lambda: str(folder))
    mask = os.umask(0o002)
    try:
        with persistent_cache():
            pass
    finally:
        os.umask(mask)
    assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o700, 0o700]
    folder.parent.chmod(0o770)
    message = r"Other users can write to .*/jaxconv, .*chmod 700"
    with pytest.raises(PermissionError, match=message), persistent_cache():
        pass


def test_the_model_and_its_instructions_identify_the_cpu(monkeypatch, tmp_path):
    text = "processor : 0\nmodel name : A\nflags : sse avx\n\nprocessor : 1\nflags : other\n"
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(compilation_cache, "Path", lambda _: tmp_path / "cpuinfo")
    assert compilation_cache._cpu() == " A\n sse avx"
    monkeypatch.setattr(compilation_cache, "Path", lambda _: tmp_path / "nothing")
    assert isinstance(compilation_cache._cpu(), str)


def test_the_environment_may_name_the_folder():
    command = [
        sys.executable,
        "-c",
        "from jaxconv.measure.compilation_cache import cache_folder as f; print(f())",
    ]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": "/some/where"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "/some/where\n"


def test_even_programs_that_compile_quickly_are_stored_and_found(tmp_path):
    before = [getattr(jax.config, name) for name in SETTINGS]
    folder = tmp_path / "new" / "cache"
    value, watch = value_and_watch(folder)
    assert (value, watch.cached, watch.compilations) == (15.0, 0, 1)
    value, watch = value_and_watch(folder)
    assert (value, watch.cached, watch.compilations) == (15.0, 1, 1)
    assert [getattr(jax.config, name) for name in SETTINGS] == before
    x, files = jnp.ones(3), set(folder.iterdir())
    jax.jit(lambda x: 6 * x)(x)
    assert set(folder.iterdir()) == files


@pytest.mark.parametrize("kind", ["half", "nothing", "a flipped byte"])
def test_a_damaged_program_is_compiled_anew_and_replaced(kind, tmp_path):
    value_and_watch(tmp_path)
    (entry,) = tmp_path.glob("*-cache")
    whole = entry.read_bytes()
    flipped = whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]
    entry.write_bytes({"half": whole[: len(whole) // 2], "nothing": b""}.get(kind, flipped))
    with pytest.warns(UserWarning, match="-cache|persistent compilation cache") as warned:
        value, watch = value_and_watch(tmp_path)
    assert (value, watch.cached) == (15.0, 0)
    first, second = (str(warning.message) for warning in warned)
    assert "Error reading persistent compilation cache" in first
    assert second == f"Deleted {entry.name} from {tmp_path}: it was damaged."
    assert value_and_watch(tmp_path)[1].cached == 0
    assert value_and_watch(tmp_path)[1].cached == 1
    assert delete_damaged(str(tmp_path)) == []


def test_an_entry_that_is_no_file_stays(tmp_path):
    (tmp_path / "x-cache").mkdir()
    assert delete_damaged(str(tmp_path)) == []


def test_other_warnings_pass(tmp_path):
    with pytest.warns(UserWarning, match="mine") as warned, persistent_cache(str(tmp_path)):
        warnings.warn("mine", stacklevel=1)
    assert len(warned) == 1


def test_a_program_compressed_by_zstandard_needs_it_for_the_check(tmp_path):
    (tmp_path / "x-cache").write_bytes(b"\x28\xb5\x2f\xfdnothing that could be read")
    damaged = delete_damaged(str(tmp_path))
    assert damaged == (["x-cache"] if importlib.util.find_spec("zstandard") else [])


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), persistent_cache(str(tmp_path / "file" / "x")):
        pass
    monkeypatch.setattr(compilation_cache.os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(PermissionError, match="cannot be written"), persistent_cache(str(tmp_path)):
        pass


def test_no_persistent_cache_stores_nothing(tmp_path):
    with persistent_cache(str(tmp_path)), no_persistent_cache():
        jax.jit(lambda x: 7 * x)(jnp.ones(3))
    assert list(tmp_path.iterdir()) == []
    assert jax.config.jax_enable_compilation_cache


def test_a_cache_that_is_forbidden_or_impossible_names_the_reason(monkeypatch, capsys):
    with no_persistent_cache(), cache_if_possible() as folder:
        assert folder is None
    reason = "because JAX_ENABLE_COMPILATION_CACHE is false"
    assert capsys.readouterr().out == f"Compilation cache: off, {reason}\n"
    monkeypatch.setattr(compilation_cache, "cache_folder", lambda: "/dev/null/cache")
    with cache_if_possible() as folder:
        assert folder is None
        assert not jax.config.jax_enable_compilation_cache
    assert "Compilation cache: off, [Errno" in capsys.readouterr().out
