"""Fixtures of all tests, and the settings of JAX, Keras and hypothesis that they need."""

import os
import signal

os.environ.setdefault("KERAS_BACKEND", "jax")  # the oracle; Keras reads this when it is imported
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # processes share a GPU
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # the developer's own
os.environ.pop("JAX_ENABLE_COMPILATION_CACHE", None)

import hypothesis
import jax
import jaxtyping
import pytest

import jaxconv
from jaxconv.measure import compilation_cache
from jaxconv.runs import prepare
from tests.support.digits import load_digits

# A process in the background ignores SIGINT, and so do its children, but tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture(scope="session")
def tests_cache_folder(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(autouse=True)
def own_compilation_cache(monkeypatch, tests_cache_folder):
    """Neither this process nor one that it starts reads or fills the user's own cache."""
    monkeypatch.setattr(compilation_cache, "cache_folder", lambda: tests_cache_folder)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", tests_cache_folder)


@pytest.fixture
def few_digits(monkeypatch, digits):
    """Experiments run on a few hundred digits, whatever data set their settings name."""
    monkeypatch.setattr(prepare, "load_dataset", lambda *_, **__: digits)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, none of them to a file."""
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    return figures


@pytest.fixture
def untyped():
    """Turns run-time type checks off, which users do not have: for tests of our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def x64():
    """Enables 64-bit types for one test."""
    with jax.enable_x64(True):
        yield
