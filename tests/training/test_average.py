import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import jaxconv
from experiments.benchmarks.keras_nets import SHAPE
from experiments.benchmarks.keras_parity import precision
from jaxconv.export import load_weights
from jaxconv.training import average_weights, averaged
from tests.support.oracles import bits

MODEL = jaxconv.create_model("dense", hidden=())


def test_the_average_is_that_of_keras(digits, tmp_path):
    path, image = tmp_path / "net.weights.h5", digits.train.image[:100] / 255.0
    batch = {"image": image, "label": digits.train.label[:100]}
    given = {"epochs": 2, "batch_size": 32, "shuffle": False}
    with precision("float64"):
        keras.utils.set_random_seed(1)
        layers = [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(10)]
        theirs = keras.Sequential(layers)
        theirs.compile(
            keras.optimizers.RMSprop(0.01, use_ema=True, ema_momentum=0.7),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        theirs.save_weights(path)
        model = MODEL.clone(dtype=jnp.float64, param_dtype=jnp.float64)
        net = jaxconv.classifier(model, average_weights(jaxconv.rmsprop(0.01), 0.7))
        params = load_weights(path, model, SHAPE)
        state = net.init(jax.random.key(0), SHAPE, params=params)
        theirs.fit(image, batch["label"], verbose=0, **given)  # its last act is the average's
        theirs.save_weights(path)
        state, _ = jaxconv.fit(net, state, batch, **given)
        expected = load_weights(path, model, SHAPE)
    for name in ("kernel", "bias"):
        found = averaged(state).params["logits"][name]
        np.testing.assert_allclose(found, expected["logits"][name], rtol=0, atol=1e-12)
        assert np.abs(found - state.params["logits"][name]).max() > 1e-3


def test_training_itself_stays_the_same_to_the_bit(digits):
    found = []
    for tx in (jaxconv.adam(), average_weights(jaxconv.adam(), 0.9)):
        net = jaxconv.classifier(MODEL, tx)
        state = net.init(jax.random.key(0), SHAPE)
        state, _ = jaxconv.fit(net, state, digits.train[:100], epochs=2, batch_size=32)
        found.append(bits(state._replace(opt_state=())))
    assert found[0] == found[1]


def test_both_kinds_of_weights_are_validated(digits):
    net = jaxconv.classifier(MODEL, average_weights(jaxconv.adam(), 0.9))
    state = net.init(jax.random.key(0), SHAPE)
    given = {"epochs": 1, "batch_size": 32, "validation": digits.test}
    state, (row,) = jaxconv.fit(net, state, digits.train[:100], **given)
    for kind, own in (("val", averaged(state)), ("raw_val", state)):
        for name, mean in jaxconv.evaluate(net, own, digits.test).items():
            assert row[f"{kind}_{name}"] == mean
    assert row["val_loss"] != row["raw_val_loss"]
    net = jaxconv.classifier(MODEL, jaxconv.adam())
    _, (row,) = jaxconv.fit(net, net.init(jax.random.key(0), SHAPE), digits.train[:100], **given)
    assert "raw_val_loss" not in row


def test_the_average_is_found_within_other_transforms(digits):
    """Clipping in front of it, and a learning rate in the state around it, as a sweep has it."""
    found = []
    for wrap in (
        lambda: average_weights(optax.chain(optax.clip(0.1), optax.sgd(0.1)), 0.9),
        lambda: optax.chain(optax.clip(0.1), average_weights(optax.sgd(0.1), 0.9)),
        lambda: optax.chain(
            optax.clip(0.1),
            optax.inject_hyperparams(lambda rate: average_weights(optax.sgd(rate), 0.9))(0.1),
        ),
    ):
        net = jaxconv.classifier(MODEL, wrap())
        state = net.init(jax.random.key(0), SHAPE)
        state, _ = jaxconv.fit(net, state, digits.train[:100], epochs=1, batch_size=32)
        found.append(averaged(state).params["logits"]["kernel"])
        assert np.abs(found[-1] - state.params["logits"]["kernel"]).max() > 1e-4
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)


def test_an_optimizer_that_takes_more_keeps_it(digits):
    """A line search gets the loss's value, gradient and function through the average."""
    net = jaxconv.classifier(MODEL, average_weights(optax.lbfgs(), 0.5))
    state = net.init(jax.random.key(0), SHAPE)
    batch = digits.train[:32].batch()
    state, before = jax.jit(net.train_step)(state, batch)
    _, after = jax.jit(net.train_step)(state, batch)
    assert after["loss"] < before["loss"]


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")])
def test_a_momentum_out_of_its_range_is_refused(momentum):
    with pytest.raises(ValueError, match=rf"ema_momentum must be in \[0, 1\), not {momentum}"):
        average_weights(optax.sgd(0.1), momentum)
