import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxconv
from jaxconv.data.arrays import Split
from jaxconv.runs.files import read_arrays
from jaxconv.runs.report.collect import MAX_MISTAKES, collect_diagnostics, save_diagnostics


def trained(model: nn.Module, data: jaxconv.Dataset) -> jaxconv.TrainState:
    net = jaxconv.classifier(model, jaxconv.adam())
    state = net.init(jax.random.key(0), data.input_shape)
    return jaxconv.fit(net, state, data.train, epochs=1, batch_size=64)[0]


def test_they_hold_the_nets_output_for_every_sample(digits):
    model = jaxconv.create_model("strided")
    state = trained(model, digits)
    diagnostics = collect_diagnostics(model, state, digits.test)
    logits = np.asarray(
        jax.jit(model.apply)({"params": state.params}, digits.test.image / np.float32(255)),
        np.float64,
    )
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    assert diagnostics["prediction"].tolist() == logits.argmax(axis=-1).tolist()
    np.testing.assert_allclose(diagnostics["confidence"], probabilities.max(axis=-1), rtol=1e-5)
    np.testing.assert_allclose(diagnostics["probabilities"], probabilities[0], rtol=1e-4)
    wrong = [i for i in range(70) if logits[i].argmax() != digits.test.label[i]]
    assert len(wrong) > MAX_MISTAKES
    wrong.sort(key=lambda i: -probabilities[i].max())
    assert diagnostics["mistake"].tolist() == wrong[:MAX_MISTAKES]
    assert (diagnostics["mistake_image"] == digits.test.image[wrong[:MAX_MISTAKES]]).all()
    assert (diagnostics["label"] == digits.test.label).all()
    assert (diagnostics["filters"] == state.params["conv1"]["kernel"]).all()
    assert diagnostics["layer_params"].sum() == 40_394
    assert diagnostics["map_layer"].tolist() == ["conv1", "conv2", "conv3"]
    assert diagnostics["map_2"].shape == (2, 2, 64)
    assert "class_name" not in diagnostics


class Sums(nn.Module):
    """A model without a kernel."""

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
    diagnostics = collect_diagnostics(model, state, test)
    assert diagnostics["filters"].shape == (*shape, 7)
    kernel = np.asarray(state.params["dense1"]["kernel"])
    place = (shape[0] - 1, 1, shape[2] - 1)
    row = np.ravel_multi_index(place, shape)
    assert (diagnostics["filters"][place] == kernel[row]).all()
    assert len(diagnostics["map_layer"]) == 0
    bare = Sums()
    state = jaxconv.create_train_state(bare, jaxconv.adam(), jax.random.key(0), shape)
    diagnostics = collect_diagnostics(bare, state, test, tuple("abcdefghij"))
    assert "filters" not in diagnostics
    assert diagnostics["class_name"].tolist() == list("abcdefghij")
    assert diagnostics["layer_macs"].tolist() == [-1]


def test_bfloat16_images_are_kept_as_float32():
    model = jaxconv.create_model("dense", hidden=(4,))
    state = jaxconv.create_train_state(model, jaxconv.adam(), jax.random.key(0), (6, 6, 1))
    image = np.asarray(jnp.ones((3, 6, 6, 1), jnp.bfloat16))
    diagnostics = collect_diagnostics(model, state, Split(image, np.arange(3, dtype=np.int32)))
    assert diagnostics["image"].dtype == diagnostics["mistake_image"].dtype == np.float32


def test_the_first_replica_that_did_not_diverge_is_saved(tmp_path, digits):
    model, tx = jaxconv.create_model("dense", hidden=(8,)), jaxconv.adam()
    states = [
        jaxconv.create_train_state(model, tx, jax.random.key(seed), (28, 28, 1)) for seed in (3, 7)
    ]
    lost = states[0]._replace(params=jax.tree.map(lambda x: x * jnp.nan, states[0].params))
    path = tmp_path / "diagnostics.npz"
    stack = jaxconv.training.stack_states
    save_diagnostics(path, model, stack([lost, states[1]]), [3, 7], digits.test)
    diagnostics = read_arrays(path)
    alone = collect_diagnostics(model, states[1], digits.test)
    assert int(diagnostics["seed"]) == 7
    assert (diagnostics["confidence"] == alone["confidence"]).all()
    path.unlink()
    save_diagnostics(path, model, stack([lost, lost]), [3, 7], digits.test)
    assert list(tmp_path.iterdir()) == []
    save_diagnostics(path, model, stack([states[0]]), [3], digits.test)
    assert int(read_arrays(path)["seed"]) == 3
