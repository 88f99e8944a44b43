"""A training and a look at it, under the settings by which JAX shows mistakes."""

import gc

import jax
import numpy as np
import pytest

import jaxconv
from jaxconv.runs.report.collect import collect_diagnostics

MODEL = jaxconv.create_model("dropout", filters=(2, 3))


@pytest.fixture
def small_heap():
    """Hides the objects of other tests, all of which JAX searches for leaks after each trace."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("small_heap")
@pytest.mark.parametrize(
    "setting",
    [
        lambda: jax.numpy_dtype_promotion("strict"),
        lambda: jax.numpy_rank_promotion("raise"),
        jax.checking_leaks,
        lambda: jax.debug_nans(True),
    ],
    ids=["dtypes", "ranks", "leaks", "nans"],
)
def test_a_training_a_summary_and_a_page_pass(setting, digits):
    with setting():
        net = jaxconv.classifier(MODEL, jaxconv.adam())  # new functions, which JAX traces here
        state = net.init(jax.random.key(0), digits.input_shape)
        options = {"epochs": 1, "batch_size": 32, "validation": digits.test}
        batch = digits.train[:48].batch() | {"weight": np.ones(48, np.float32)}
        state, _ = jaxconv.fit(net, state, batch, **options)
        jaxconv.summary(MODEL, digits.input_shape)
        jaxconv.explain(MODEL, digits.input_shape)
        collect_diagnostics(MODEL, state, digits.test)


def test_fit_moves_nothing_to_a_device_unasked(digits):
    net = jaxconv.classifier(MODEL, jaxconv.adam())
    state = net.init(jax.random.key(0), digits.input_shape)
    with jax.transfer_guard("disallow"):
        for shuffle in (True, False):
            options = {"batch_size": 32, "shuffle": shuffle, "validation": digits.test}
            jaxconv.fit(net, state, digits.train[:48], epochs=2, **options)
