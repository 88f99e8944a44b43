"""Nets with BatchNorm in runs: their statistics go wherever their parameters go."""

import jax
import numpy as np
import pytest

import jaxconv
from experiments import strided
from tests.support.oracles import bits
from tests.support.run_folders import run

pytestmark = pytest.mark.usefixtures("few_digits", "no_pictures")

NET = {"batch_norm": True, "global_pool": True, "epochs": 1, "batch_size": 100}


def test_a_run_starts_from_the_statistics_of_another_and_of_keras(digits, tmp_path):
    keras = str(tmp_path / "a.weights.h5")
    run("strided", tmp_path / "a", **NET, export_keras=keras)
    first = jaxconv.load_run(tmp_path / "a")
    assert first.model.batch_norm
    assert np.abs(first.state.batch_stats["norm1"]["mean"]).max() > 0
    run("strided", tmp_path / "b", **NET, init_from=str(tmp_path / "a"))
    run("strided", tmp_path / "c", **NET, init_from=keras)
    second, third = (jaxconv.load_run(tmp_path / x) for x in "bc")
    assert bits(second.state) == bits(third.state)
    net = jaxconv.classifier(first.model, strided.RECIPE.tx(1e-3))
    given = {"params": first.state.params, "batch_stats": first.state.batch_stats}
    state = net.init(jax.random.key(0), (28, 28, 1), **given)
    state, _ = jaxconv.fit(net, state, digits.train, epochs=1, batch_size=100)
    for name, x in state.batch_stats["norm3"].items():
        np.testing.assert_allclose(second.state.batch_stats["norm3"][name], x, rtol=1e-4)


def test_it_trains_on_and_each_seed_as_alone(tmp_path):
    several = NET | {"seeds": "3,7", "ema_momentum": 0.5}
    run("strided", tmp_path / "a", **several | {"epochs": 2})
    run("strided", tmp_path / "b", **several)
    run("strided", tmp_path / "b", **several | {"epochs": 2}, resume=True)
    whole, again = (jaxconv.load_run(tmp_path / x) for x in "ab")
    assert list(map(bits, whole.states)) == list(map(bits, again.states))
    run("strided", tmp_path / "c", **NET | {"seed": 7, "ema_momentum": 0.5, "epochs": 2})
    assert bits(jaxconv.load_run(tmp_path / "c").state) == bits(whole.states[1])
