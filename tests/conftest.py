"""Fixtures of all tests, and the settings of JAX, Keras and hypothesis that they need."""

import os
import signal
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")  # the oracle; Keras reads this when it is imported
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # processes share a GPU
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # the developer's own
os.environ.pop("JAX_ENABLE_COMPILATION_CACHE", None)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Most of a test's time is compilation. XLA optimizes in CI, with the newest JAX and slow tests.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

from pathlib import Path

import hypothesis
import jax
import jaxtyping
import pytest

import jaxconv
from jaxconv.measure import compilation_cache
from jaxconv.runs import prepare, run_folder
from jaxconv.runs.run_folder import REPORT
from tests.support import ROOT
from tests.support.digits import load_digits

# A process in the background ignores SIGINT, one under nohup SIGHUP, and so do their children, but
# tests send both.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

QUICK = "--xla_cpu_parallel_codegen_split_count=1"
if jax.__version_info__ < (0, 12):  # XLA ends a process whose flag it does not know
    QUICK += " --xla_cpu_use_fusion_emitters=false"
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1":
    flags = os.environ.get("XLA_FLAGS", "").replace(QUICK, "")  # pytest's workers inherit them
    os.environ["XLA_FLAGS"] = f"{flags} {QUICK}".strip()

# All tests, and the processes that they start, share the programs that they compile, and keep them
# for the next time; `pytest --cache-clear` deletes them.
PROGRAMS = ROOT / ".pytest_cache" / "d" / "jax" / Path(compilation_cache.cache_folder()).name
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(PROGRAMS)
jax.config.update("jax_compilation_cache_dir", str(PROGRAMS))

hypothesis.settings.register_profile("fast", max_examples=10, deadline=None, derandomize=True)
hypothesis.settings.register_profile("thorough", max_examples=100, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture(scope="session")
def mnist() -> jaxconv.Dataset:
    return jaxconv.load_dataset("mnist")


@pytest.fixture(scope="session")
def digits() -> jaxconv.Dataset:
    """300 digits to train on and 70 to test on."""
    return load_digits()


@pytest.fixture
def no_cache_folder(monkeypatch):
    """As for a user who has not configured one."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", str(PROGRAMS))


@pytest.fixture
def few_digits(monkeypatch, digits):
    """Experiments run on a few hundred digits, whatever data set their settings name."""
    monkeypatch.setattr(prepare, "load_dataset", lambda *_, **__: digits)


@pytest.fixture
def no_pictures(monkeypatch):
    """Runs end with empty curves and an empty page: real ones take half of a small run's time."""
    monkeypatch.setattr(run_folder, "plot_run", lambda *arguments, **_: arguments[3].touch())
    monkeypatch.setattr(run_folder, "write_report", lambda path, _: (path / REPORT).touch())


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, none of them to a file."""
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    return figures


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A class in a module whose import leaves a file; nothing may import it."""
    sung = tmp_path / "sung"
    (tmp_path / "canary.py").write_text(f"open({str(sung)!r}, 'w').close()")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "canary.Feature"
    assert not sung.exists()
    assert "canary" not in sys.modules


@pytest.fixture
def untyped():
    """Turns run-time type checks off, which users do not have: for tests of our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def wrapped(pytestconfig) -> bool:
    """Whether type checks wrap every function: then the stack has more frames than a user's."""
    return bool(pytestconfig.getoption("jaxtyping_packages", None))


@pytest.fixture
def x64():
    """Enables 64-bit types for one test."""
    with jax.enable_x64(True):
        yield
