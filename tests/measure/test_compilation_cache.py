import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib.version
import platformdirs
import pytest
from jax._src import compilation_cache as jax_cache

from jaxconv.measure import compilation_cache
from jaxconv.measure.compilation_cache import (
    cache_folder,
    cache_if_possible,
    persistent_cache,
)
from jaxconv.measure.timing import CompileWatch

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
)


def value_and_watch(folder: Path) -> tuple[float, CompileWatch]:
    """Runs a program that the cache in the folder may have."""
    x = jnp.ones(3)
    with persistent_cache(str(folder)), CompileWatch() as watch:
        return float(jax.jit(lambda x: (5 * x).sum())(x)), watch


@pytest.mark.usefixtures("no_cache_folder")
def test_the_folder_lies_in_the_users_cache_and_fits_the_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = Path(cache_folder())
    assert folder.parent == tmp_path / "jaxconv"
    assert folder.name.startswith(f"jaxlib-{jaxlib.version.__version__}-")
    text = "model name : A\nflags : sse\n\nmodel name : other\n"
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(compilation_cache, "Path", lambda _: tmp_path / "cpuinfo")
    another = cache_folder()
    assert Path(another).parent == folder.parent
    assert another != str(folder)
    (tmp_path / "cpuinfo").write_text(text.replace("sse", "sse avx512"))
    assert cache_folder() not in (another, str(folder))
    (tmp_path / "cpuinfo").write_text(text.replace("other", "any"))
    assert cache_folder() == another


@pytest.mark.usefixtures("no_cache_folder")
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
    for name, made in (("jaxconv/jaxlib", folder), ("jaxconv", folder.parent)):
        made.chmod(0o770)
        message = f"Others can write to .*/{name}: delete it, or chmod 700"
        with pytest.raises(PermissionError, match=message), persistent_cache():
            pass
    folder.parent.chmod(0o700)
    folder.chmod(0o700)
    monkeypatch.setattr(compilation_cache.os, "getuid", lambda: -1)  # it is another user's
    with pytest.raises(PermissionError, match="Others can write"), persistent_cache():
        pass


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
def test_a_program_that_cannot_be_read_is_compiled_and_counted_so(kind, tmp_path):
    value_and_watch(tmp_path)
    (entry,) = tmp_path.glob("*-cache")
    whole = entry.read_bytes()
    flipped = whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]
    entry.write_bytes({"half": whole[: len(whole) // 2], "nothing": b""}.get(kind, flipped))
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache"):
        value, watch = value_and_watch(tmp_path)
    assert (value, watch.cached, watch.compilations) == (15.0, 0, 1)


def test_a_program_that_the_backend_rejects_on_reload_counts_as_compiled(tmp_path, monkeypatch):
    """As on some AVX-512 hosts (jax-ml/jax#38445): the entry is whole, and is refused."""
    value_and_watch(tmp_path)

    def rejected(*_):
        raise RuntimeError("Target machine feature +prefer-no-gather is not supported on the host")

    monkeypatch.setattr(jax_cache, "extract_executable_and_time", rejected)
    with pytest.warns(UserWarning, match="Error reading .*prefer-no-gather"):
        value, watch = value_and_watch(tmp_path)
    assert (value, watch.cached, watch.compilations) == (15.0, 0, 1)


def test_a_program_for_another_cpu_is_loaded_with_a_message_and_counts_as_cached(tmp_path, capfd):
    value_and_watch(tmp_path)
    (entry,) = tmp_path.glob("*-cache")
    content = jax_cache.decompress_executable(entry.read_bytes())
    if b"+sse4.2" not in content:
        pytest.skip("The program does not name SSE 4.2, which this test takes for another feature.")
    other = jax_cache.compress_executable(content.replace(b"+sse4.2", b"+sse4.x"))
    entry.write_bytes(other)
    value, watch = value_and_watch(tmp_path)
    assert re.search(r"feature \+sse4.x is not +supported on the host", capfd.readouterr().err)
    assert (value, watch.cached, watch.compilations) == (15.0, 1, 1)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), persistent_cache(str(tmp_path / "file" / "x")):
        pass
    monkeypatch.setattr(compilation_cache.os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(PermissionError, match="cannot be written"), persistent_cache(str(tmp_path)):
        pass


def test_an_unwanted_cache_stores_nothing(tmp_path):
    with persistent_cache(str(tmp_path)), cache_if_possible(wanted=False):
        jax.jit(lambda x: 7 * x)(jnp.ones(3))
    assert list(tmp_path.iterdir()) == []
    assert jax.config.jax_enable_compilation_cache


def test_a_cache_that_is_forbidden_or_impossible_names_the_reason(monkeypatch, capsys):
    with cache_if_possible(wanted=False), cache_if_possible() as folder:
        assert folder is None
    reason = "because JAX_ENABLE_COMPILATION_CACHE is false"
    assert capsys.readouterr().out == f"Compilation cache: off, {reason}\n"
    monkeypatch.setattr(compilation_cache, "cache_folder", lambda: "/dev/null/cache")
    with cache_if_possible() as folder:
        assert folder is None
        assert not jax.config.jax_enable_compilation_cache
    assert "Compilation cache: off, [Errno" in capsys.readouterr().out


@pytest.mark.usefixtures("no_cache_folder")
def test_a_user_without_a_home_has_no_cache(monkeypatch, capsys):
    def homeless(*_, **__):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(platformdirs, "user_cache_path", homeless)
    with cache_if_possible() as folder:
        assert folder is None
    printed = "Compilation cache: off, could not determine the home directory\n"
    assert capsys.readouterr().out == printed
