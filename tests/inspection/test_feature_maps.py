import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import jaxconv
from jaxconv.inspection.feature_maps import feature_maps


def test_maps_are_the_output_of_each_layer(digits):
    """Computed by hand, layer after layer, from the parameters."""
    model = jaxconv.create_model("dropout")
    state = jaxconv.create_train_state(model, jaxconv.adam(), jax.random.key(0), (28, 28, 1))
    image = digits.test.image[:3]
    maps = feature_maps(model, state, image)
    x = jnp.asarray(image, jnp.float32) / 255
    for i in (1, 2):
        params = state.params[f"conv{i}"]
        x = jnp.maximum(jaxconv.models.conv(x, params["kernel"]) + params["bias"], 0)
        np.testing.assert_allclose(maps[f"conv{i}"], x, atol=1e-5)
        x = jaxconv.models.max_pool(x)
        np.testing.assert_allclose(maps[f"pool{i}"], x, atol=1e-5)
    np.testing.assert_allclose(maps["flatten"], x.reshape(3, -1), atol=1e-5)
    assert (maps["dropout"] == maps["flatten"]).all()
    logits = model.apply({"params": state.params}, jnp.asarray(image, jnp.float32) / 255)
    np.testing.assert_allclose(maps["logits"], logits, atol=1e-4)


class Twice(nn.Module):
    """A user's model with a shared layer, and one whose input is no image."""

    @nn.compact
    def __call__(self, x):
        conv = nn.Conv(2, (3, 3), name="conv")
        x = conv(conv(x)).mean(axis=-1)
        return nn.Dense(10, name="logits")(x.reshape(len(x), -1))


def test_a_users_model_has_maps():
    model = Twice()
    state = jaxconv.create_train_state(model, jaxconv.adam(), jax.random.key(0), (8, 8, 2))
    image = np.random.default_rng(0).random((5, 8, 8, 2), np.float32)
    maps = feature_maps(model, state, image)
    assert list(maps) == ["conv", "conv (2)", "logits"]
    layer = nn.Conv(2, (3, 3))
    once = layer.apply({"params": state.params["conv"]}, image)
    np.testing.assert_allclose(maps["conv"], once, rtol=1e-5)
    again = layer.apply({"params": state.params["conv"]}, once)
    np.testing.assert_allclose(maps["conv (2)"], again, rtol=1e-4, atol=1e-6)


class Aside(nn.Module):
    """A layer that runs while parameters are made alone, and one that Flax transforms."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.remat(nn.Conv)(2, (3, 3), name="lifted")(x)
        if train or self.is_initializing():
            nn.Dense(3, name="aux")(x.mean(axis=(1, 2)))
        return nn.Dense(10, name="logits")(x.reshape(len(x), -1))


def test_a_layer_that_does_not_run_has_no_maps_and_a_transformed_one_has():
    model = Aside()
    state = jaxconv.create_train_state(model, jaxconv.adam(), jax.random.key(0), (6, 6, 1))
    image = np.random.default_rng(0).random((2, 6, 6, 1), np.float32)
    maps = feature_maps(model, state, image)
    assert list(maps) == ["lifted", "logits"]
    layer = nn.Conv(2, (3, 3))
    expected = layer.apply({"params": state.params["lifted"]}, image)
    np.testing.assert_allclose(maps["lifted"], expected, rtol=1e-5, atol=1e-6)
