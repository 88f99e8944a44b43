"""What the tests share: real digits, and hypothesis profiles."""

import os
import signal

os.environ.setdefault("KERAS_BACKEND", "jax")  # the oracle; Keras reads it when it is imported
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # processes share a GPU
os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # the developer's own
os.environ.pop("JAX_ENABLE_COMPILATION_CACHE", None)

import hypothesis
import jax
import jaxtyping
import pytest

import jaxconv
from jaxconv.measure import compilation_cache
from jaxconv.runs import experiment

# Processes in the background ignore SIGINT, and so do their children; tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("fast", max_examples=10, deadline=None, derandomize=True)
hypothesis.settings.register_profile("thorough", max_examples=100, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture(scope="session")
def mnist() -> jaxconv.Dataset:
    return jaxconv.load_dataset("mnist")


@pytest.fixture(scope="session")
def digits(mnist: jaxconv.Dataset) -> jaxconv.Dataset:
    """A few hundred real digits; 300 and 70 leave partial batches of every usual size."""
    train, test = mnist.train, mnist.test
    return jaxconv.Dataset.from_arrays(
        train.image[:300],
        train.label[:300],
        test.image[:70],
        test.label[:70],
        num_classes=10,
        name="digits",
    )


@pytest.fixture(scope="session")
def cache_folder_of_the_tests(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(autouse=True)
def own_compilation_cache(monkeypatch, cache_folder_of_the_tests):
    """The user's own cache is neither read nor filled, by this process or one that it starts."""
    monkeypatch.setattr(compilation_cache, "cache_folder", lambda: cache_folder_of_the_tests)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", cache_folder_of_the_tests)


@pytest.fixture
def few_digits(monkeypatch, digits):
    """Experiments run on a few hundred digits, whatever they ask for."""
    monkeypatch.setattr(experiment, "load_dataset", lambda *_, **__: digits)


@pytest.fixture
def untyped():
    """No run-time type checks, which a user does not have either: for tests of our own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def x64():
    """64 bits for one test."""
    with jax.enable_x64(True):
        yield
