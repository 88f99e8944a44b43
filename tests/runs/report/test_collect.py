import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxconv
from jaxconv.data.arrays import Split
from jaxconv.inspection.feature_maps import feature_maps
from jaxconv.runs.files import read_arrays
from jaxconv.runs.report.collect import MISTAKES, collect_diagnostics, save_diagnostics


def trained(model: nn.Module, data: jaxconv.Dataset) -> jaxconv.TrainState:
    tx = jaxconv.adam()
    state = jaxconv.create_train_state(model, tx, jax.random.key(0), data.input_shape)
    step = jaxconv.make_train_step(model, tx)
    return jaxconv.fit(state, data.train, train_step=step, epochs=1, batch_size=64)[0]


def test_they_are_what_the_net_says_of_every_sample(digits):
    model = jaxconv.create_model("strided")
    state = trained(model, digits)
    kept = collect_diagnostics(model, state, digits.test)
    logits = np.asarray(
        jax.jit(model.apply)({"params": state.params}, digits.test.image / np.float32(255)),
        np.float64,
    )
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert kept["prediction"].tolist() == logits.argmax(axis=-1).tolist()
    np.testing.assert_allclose(kept["confidence"], probabilities.max(axis=-1), rtol=1e-5)
    np.testing.assert_allclose(kept["probabilities"], probabilities[0], rtol=1e-4)
    wrong = [i for i in range(70) if logits[i].argmax() != digits.test.label[i]]
    assert len(wrong) > MISTAKES
    wrong.sort(key=lambda i: -probabilities[i].max())
    assert kept["mistake"].tolist() == wrong[:MISTAKES]
    assert (kept["mistake_image"] == digits.test.image[wrong[:MISTAKES]]).all()
    assert (kept["label"] == digits.test.label).all()
    assert (kept["filters"] == state.params["conv1"]["kernel"]).all()
    assert kept["layer_params"].sum() == 40_394
    assert kept["map_layer"].tolist() == ["conv1", "conv2", "conv3"]
    assert kept["map_2"].shape == (2, 2, 64)


def test_maps_are_what_each_layer_gives(digits):
    """By hand, layer after layer, from the parameters."""
    model = jaxconv.create_model("dropout")
    state = trained(model, digits)
    image = digits.test.image[:3]
    maps = feature_maps(model, state, image)
    x = jnp.asarray(image, jnp.float32) / 255
    for i in (1, 2):
        params = state.params[f"conv{i}"]
        x = jnp.maximum(jaxconv.layers.conv(x, params["kernel"]) + params["bias"], 0)
        np.testing.assert_allclose(maps[f"conv{i}"], x, atol=1e-5)
        x = jaxconv.layers.max_pool(x)
        np.testing.assert_allclose(maps[f"pool{i}"], x, atol=1e-5)
    np.testing.assert_allclose(maps["flatten"], x.reshape(3, -1), atol=1e-5)
    assert (maps["dropout"] == maps["flatten"]).all()
    logits = model.apply({"params": state.params}, jnp.asarray(image, jnp.float32) / 255)
    np.testing.assert_allclose(maps["logits"], logits, atol=1e-4)


class Twice(nn.Module):
    """A user's: a shared layer, and one whose input is no image."""

    @nn.compact
    def __call__(self, x):
        conv = nn.Conv(2, (3, 3), name="conv")
        x = conv(conv(x)).mean(axis=-1)
        return nn.Dense(10, name="logits")(x.reshape(len(x), -1))


def test_a_model_of_ones_own_has_its_maps():
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
    kept = collect_diagnostics(model, state, Split(image, np.zeros(5, np.int32)))
    assert kept["map_layer"].tolist() == ["conv", "conv (2)"]


class Sums(nn.Module):
    """No kernel at all."""

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, (10,))
        return x.sum(axis=(1, 2, 3))[:, None] * scale


@pytest.mark.parametrize("shape", [(8, 8, 1), (6, 4, 3), (5, 5, 5)])
def test_a_dense_layers_weights_are_images_of_its_input(shape):
    model = jaxconv.create_model("dense", hidden=(7,))
    state = jaxconv.create_train_state(model, jaxconv.adam(), jax.random.key(0), shape)
    image = np.random.default_rng(0).integers(0, 255, (4, *shape), np.uint8)
    test = Split(image, np.zeros(4, np.int32))
    kept = collect_diagnostics(model, state, test)
    assert kept["filters"].shape == (*shape, 7)
    kernel = np.asarray(state.params["dense1"]["kernel"])
    place = (shape[0] - 1, 1, shape[2] - 1)
    row = np.ravel_multi_index(place, shape)
    assert (kept["filters"][place] == kernel[row]).all()
    assert len(kept["map_layer"]) == 0
    bare = Sums()
    state = jaxconv.create_train_state(bare, jaxconv.adam(), jax.random.key(0), shape)
    assert "filters" not in collect_diagnostics(bare, state, test)


class Aside(nn.Module):
    """A layer where parameters are made alone, and one that Flax compiles by itself."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.remat(nn.Conv)(2, (3, 3), name="lifted")(x)
        if train or self.is_initializing():
            nn.Dense(3, name="aux")(x.mean(axis=(1, 2)))
        return nn.Dense(10, name="logits")(x.reshape(len(x), -1))


def test_what_does_not_run_has_no_maps_and_transforms_are_seen_through():
    model = Aside()
    state = jaxconv.create_train_state(model, jaxconv.adam(), jax.random.key(0), (6, 6, 1))
    image = np.random.default_rng(0).random((2, 6, 6, 1), np.float32)
    maps = feature_maps(model, state, image)
    assert list(maps) == ["lifted", "logits"]
    layer = nn.Conv(2, (3, 3))
    expected = layer.apply({"params": state.params["lifted"]}, image)
    np.testing.assert_allclose(maps["lifted"], expected, rtol=1e-5, atol=1e-6)


def test_bfloat16_images_are_kept_as_float32(tmp_path):
    model = jaxconv.create_model("dense", hidden=(4,))
    state = jaxconv.create_train_state(model, jaxconv.adam(), jax.random.key(0), (6, 6, 1))
    image = np.asarray(jnp.ones((3, 6, 6, 1), jnp.bfloat16))
    kept = collect_diagnostics(model, state, Split(image, np.arange(3, dtype=np.int32)))
    assert kept["image"].dtype == kept["mistake_image"].dtype == np.float32


def test_of_several_replicas_the_first_that_did_not_diverge_is_kept(tmp_path, digits):
    model, tx = jaxconv.create_model("dense", hidden=(8,)), jaxconv.adam()
    states = [
        jaxconv.create_train_state(model, tx, jax.random.key(seed), (28, 28, 1)) for seed in (3, 7)
    ]
    lost = states[0]._replace(params=jax.tree.map(lambda x: x * jnp.nan, states[0].params))
    path = tmp_path / "diagnostics.npz"
    stack = jaxconv.seeds.stack_states
    save_diagnostics(path, model, stack([lost, states[1]]), [3, 7], digits.test, stacked=True)
    kept = read_arrays(path)
    alone = collect_diagnostics(model, states[1], digits.test)
    assert int(kept["seed"]) == 7
    assert (kept["confidence"] == alone["confidence"]).all()
    path.unlink()
    save_diagnostics(path, model, stack([lost, lost]), [3, 7], digits.test, stacked=True)
    assert list(tmp_path.iterdir()) == []
    save_diagnostics(path, model, states[0], [3], digits.test, stacked=False)
    assert int(read_arrays(path)["seed"]) == 3
