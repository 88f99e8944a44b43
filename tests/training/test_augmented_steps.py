"""A training step changes its images at random, and nothing else does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv.data import compose, erase, warp
from jaxconv.training import augment_keys, fit_seeds
from tests.support.oracles import bits

AUGMENT = compose(warp(rotation=20.0, shift=1.0, elastic=0.5), erase(3))
MODEL, TX = jaxconv.create_model("dense", hidden=(8,)), jaxconv.adam()
PLAIN, NET = jaxconv.classifier(MODEL, TX), jaxconv.classifier(MODEL, TX, augment=AUGMENT)


def first_state(seed=0) -> jaxconv.TrainState:
    return PLAIN.init(jax.random.key(seed), (28, 28, 1))


def test_a_step_trains_on_the_changed_images(digits):
    batch, state = digits.train[:64].batch(), first_state()._replace(step=jnp.int32(7))
    keys = augment_keys(state.rng, state.step, 64)
    by_hand = batch | {"image": jax.jit(AUGMENT)(keys, batch["image"])}
    expected, sums = jax.jit(PLAIN.train_step)(state, by_hand)
    found, found_sums = jax.jit(NET.train_step)(state, batch)
    assert bits(found) == bits(expected)
    assert found_sums == sums
    assert float(sums["loss"]) != float(jax.jit(PLAIN.train_step)(state, batch)[1]["loss"])


def test_evaluation_and_prediction_see_the_images_as_they_are(digits):
    state = first_state()
    found, expected = (jaxconv.evaluate(net, state, digits.test) for net in (NET, PLAIN))
    assert found == expected
    images = digits.test.image[:9]
    np.testing.assert_array_equal(NET.predict(state, images), PLAIN.predict(state, images))


@pytest.mark.parametrize("strategy", ["map", "vmap"])
def test_chunks_and_groups_change_no_image(digits, strategy):
    options = {"epochs": 2, "batch_size": 64}
    alone, history = jaxconv.fit(NET, first_state(3), digits.train, chunks=1, **options)
    chunked, _ = jaxconv.fit(NET, first_state(3), digits.train, chunks=5, **options)
    assert bits(alone) == bits(chunked)
    states, histories = fit_seeds(
        NET, first_state, (0, 3, 7), digits.train, strategy=strategy, group=2, **options
    )
    assert histories[1][-1]["loss"] == pytest.approx(history[-1]["loss"], rel=1e-6)
    if strategy == "map":
        assert bits(jax.tree.map(lambda x: x[1], states)) == bits(alone)
