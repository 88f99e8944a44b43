"""Weights to and from Keras itself; `test_keras_parity.py` compares the nets that use them."""

import functools
import os
import sys

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxconv
from experiments.benchmarks.keras_nets import SHAPE, keras_model
from experiments.benchmarks.recipes import NOTEBOOKS
from jaxconv.export.keras import check_save, load_weights, save_weights
from tests.support.keras_layout import MODEL, SMALL, write_weights


def state_of(model: nn.Module, params) -> jaxconv.TrainState:
    key = jax.random.key(0)
    return jaxconv.create_train_state(model, jaxconv.adam(), key, SHAPE, params=params)


def predicted(model: nn.Module, state: jaxconv.TrainState, image):
    return jaxconv.predict(jaxconv.classifier(model, jaxconv.adam()), state, image)


@functools.cache
def params_of(model: nn.Module):
    return jax.jit(model.init)(jax.random.key(0), jnp.ones((1, *SHAPE)))["params"]


@pytest.fixture
def path(tmp_path):
    return write_weights(tmp_path / "small.weights.h5")


@pytest.mark.parametrize("net", NOTEBOOKS)
def test_both_kinds_of_file_give_keras_predictions_and_come_back(net, mnist, tmp_path):
    theirs, model = keras_model(net, NOTEBOOKS[net]), jaxconv.create_model(net)
    rng = np.random.default_rng(0)
    theirs.set_weights([w + rng.normal(scale=0.02, size=w.shape) for w in theirs.get_weights()])
    image = mnist.test.image[:1000]
    expected = theirs.predict(image.astype(np.float32) / 255, batch_size=1000, verbose=0)

    theirs.save_weights(tmp_path / "a.weights.h5")
    theirs.save(tmp_path / "a.keras")
    for name in ("a.weights.h5", "a.keras"):
        state = state_of(model, load_weights(tmp_path / name, model, SHAPE))
        found = predicted(model, state, image)
        np.testing.assert_allclose(found, expected, atol=1e-5)

    save_weights(tmp_path / "b.weights.h5", state.params, model, SHAPE)
    again = keras_model(net, NOTEBOOKS[net])
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        again.load_weights(tmp_path / "b.weights.h5")
    found = again.predict(image.astype(np.float32) / 255, batch_size=1000, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_names_order_and_optimizer_of_a_functional_model_do_not_matter(digits, tmp_path):
    import keras
    from keras import layers

    inputs = keras.Input(SHAPE)
    x = layers.Rescaling(1 / 255)(inputs)
    for number in range(12):  # conv2d_10 comes before conv2d_2 in the alphabet
        x = layers.Conv2D(3, 3, padding="same", name="zyxwvutsrqpo"[number])(x)
    x = layers.Dropout(0.5, name="a_dropout")(layers.Flatten()(x))
    theirs = keras.Model(inputs, layers.Dense(10, activation="softmax", name="first")(x))
    theirs.compile("adam", "sparse_categorical_crossentropy")
    image = digits.train.image[:20]
    theirs.fit(image, digits.train.label[:20], verbose=0)
    theirs.save(tmp_path / "x.keras")

    model = jaxconv.ConvNet(filters=(3,) * 12, padding="same", activation=None)
    state = state_of(model, load_weights(tmp_path / "x.keras", model, SHAPE))
    expected = theirs.predict(image, verbose=0)
    np.testing.assert_allclose(predicted(model, state, image), expected, atol=1e-5)
    with pytest.raises(ValueError, match=r"'conv10' \(conv2d_9 in the file, named 'q'\): has kern"):
        load_weights(tmp_path / "x.keras", model.clone(filters=(3,) * 9 + (4,) + (3,) * 2), SHAPE)


def test_a_users_own_model_is_matched_by_the_order_in_which_it_runs(path):
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.max_pool(nn.relu(nn.Conv(8, (3, 3), padding="VALID")(x)), (2, 2), (2, 2))

    class Mine(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = jaxconv.models.Conv(4, activation="relu", name="z")(x)
            x = Block(name="a")(nn.max_pool(x, (2, 2), (2, 2)))
            return nn.Dense(10, name="b")(x.reshape(len(x), -1))

    params, twin = load_weights(path, Mine(), SHAPE), load_weights(path, MODEL, SHAPE)
    np.testing.assert_array_equal(params["a"]["Conv_0"]["kernel"], twin["conv2"]["kernel"])
    image = jnp.ones((2, *SHAPE))
    np.testing.assert_allclose(
        Mine().apply({"params": params}, image), MODEL.apply({"params": twin}, image), rtol=1e-5
    )


def test_layers_without_bias_fit_files_without(tmp_path):
    write_weights(tmp_path / "x.weights.h5", {"dense": [(784, 3)]})
    model = nn.Sequential([jaxconv.models.Flatten(), nn.Dense(3, use_bias=False)])
    assert list(load_weights(tmp_path / "x.weights.h5", model, SHAPE)) == ["layers_1"]
    write_weights(tmp_path / "x.weights.h5", {"dense": [(784, 10)]})
    with pytest.raises(
        ValueError, match=r"has kernel .*, no bias; should have kernel .*, bias \(10,"
    ):
        load_weights(tmp_path / "x.weights.h5", jaxconv.ConvNet(), SHAPE)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_precisions_go_there_and_back_to_the_bit(dtype, tmp_path):
    import keras

    with jax.enable_x64(dtype == "float64"):
        model = jaxconv.create_model("dense", hidden=(3,), param_dtype=dtype)
        params = params_of(model)
        save_weights(tmp_path / "x.weights.h5", params, model, SHAPE)
        back = load_weights(tmp_path / "x.weights.h5", model, SHAPE)
        jax.tree.map(np.testing.assert_array_equal, back, params)
        assert {x.dtype for x in jax.tree.leaves(back)} == {jnp.dtype(dtype)}
        single = load_weights(tmp_path / "x.weights.h5", model.clone(param_dtype="float32"), SHAPE)
        assert {x.dtype for x in jax.tree.leaves(single)} == {jnp.dtype("float32")}

        layers = [keras.layers.Flatten(), *(keras.layers.Dense(n, dtype=dtype) for n in (3, 10))]
        theirs = keras.Sequential([keras.Input(SHAPE), *layers])
        theirs.load_weights(tmp_path / "x.weights.h5")
        weights = layers[1].weights[::-1]
        for ours, loaded in zip(jax.tree.leaves(back["dense1"]), weights, strict=True):
            np.testing.assert_array_equal(ours, np.asarray(loaded))
        theirs.save_weights(tmp_path / "y.weights.h5")
        again = load_weights(tmp_path / "y.weights.h5", model, SHAPE)
        jax.tree.map(np.testing.assert_array_equal, again, back)


def test_the_same_parameters_give_the_same_bytes(tmp_path):
    params = params_of(MODEL)
    for name in ("a", "b"):
        save_weights(tmp_path / f"{name}.weights.h5", params, MODEL, SHAPE)
    assert (tmp_path / "a.weights.h5").read_bytes() == (tmp_path / "b.weights.h5").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2
    with h5py.File(tmp_path / "a.weights.h5") as file:
        assert sorted(file) == ["layers", "vars"]  # Keras 3.0 to 3.5 refuse a file without vars


def test_reading_needs_h5py_and_not_keras(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    load_weights(path, MODEL, SHAPE)
    monkeypatch.setitem(sys.modules, "h5py", None)
    for call in (
        lambda: load_weights(path, MODEL, SHAPE),
        lambda: check_save(path.with_name("new.weights.h5"), MODEL, SHAPE),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"h5py\. .*pip install 'jaxconv\[keras\]'"):
            call()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            SMALL | {"conv2d_1": [(5, 5, 4, 8), (8,)]},
            r"layer 'conv2' \(conv2d_1 in the file, named 'second'\): "
            r"has kernel \(5, 5, 4, 8\), bias \(8,\); "
            r"should have kernel \(3, 3, 4, 8\), bias \(8,\)$",
        ),
        (
            {group: SMALL[group] for group in ("conv2d", "dense")},
            r"layer 'conv2' \(conv2d_1 in the file\): has no kernel, no bias; "
            r"should have kernel \(3, 3, 4, 8\), bias \(8,\)$",
        ),
        (
            SMALL | {"dense_1": [(10, 2)]},
            r"no layer \(dense_1 in the file, .*\): has kernel \(10, 2\); should have no kernel$",
        ),
        (
            SMALL | {"conv2d": SMALL["conv2d"][:1]},
            r"has .*, no bias; should have .*, bias \(4,\)",
        ),
        (
            SMALL | {"batch_normalization": [(4,)] * 4},
            r"no layer \(batch_normalization .* var \(4,\); should have no scale",
        ),
        (
            {"sequential/layers/conv2d": [(3, 3, 1, 4)]},
            r"no layer \(sequential/layers/conv2d in the file",
        ),
        ({}, "holds no layer with weights where functional and sequential models"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_layer_by_layer(layers, message, tmp_path):
    write_weights(tmp_path / "x.weights.h5", layers, conv2d_1="second")
    with pytest.raises(ValueError, match=message) as error:
        load_weights(tmp_path / "x.weights.h5", MODEL, SHAPE)
    assert "x.weights.h5" in str(error.value)


def test_every_layer_that_differs_is_listed(path):
    with pytest.raises(ValueError, match="does not fit ConvNet for images") as error:
        load_weights(path, jaxconv.create_model("lab6"), SHAPE)
    text = str(error.value)
    assert [name in text for name in ("'conv1'", "'conv2'", "'conv3'", "'logits'")] == [True] * 4
    assert "nothing was loaded" in text


def test_integers_are_no_weights(path):
    with h5py.File(path, "r+") as file:
        del file["layers/dense/vars/1"]
        file["layers/dense/vars/1"] = np.zeros(10, np.int8)
    with pytest.raises(ValueError, match=r"'logits' .*, bias \(10,\) of int8; should have "):
        load_weights(path, MODEL, SHAPE)


def test_an_existing_file_is_kept_unless_overwrite_is_given(path):
    params, before = params_of(MODEL), path.read_bytes()
    with pytest.raises(FileExistsError, match=r"small.weights.h5 is there already"):
        save_weights(path, params, MODEL, SHAPE)
    assert path.read_bytes() == before
    save_weights(path, params, MODEL, SHAPE, overwrite=True)
    jax.tree.map(np.testing.assert_array_equal, load_weights(path, MODEL, SHAPE), params)


def test_a_file_is_written_whole_or_not_at_all(path, tmp_path, monkeypatch):
    before = path.read_bytes()

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        save_weights(path, params_of(MODEL), MODEL, SHAPE, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(path, tmp_path):
    link = tmp_path / "link.weights.h5"
    link.symlink_to(path)
    with pytest.raises(FileExistsError):
        save_weights(link, params_of(MODEL), MODEL, SHAPE)
    save_weights(link, params_of(MODEL), MODEL, SHAPE, overwrite=True)
    assert link.is_symlink()
    jax.tree.map(np.testing.assert_array_equal, load_weights(path, MODEL, SHAPE), params_of(MODEL))


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.LayerNorm()(x).reshape(len(x), -1))


class Loose(nn.Module):
    """Its parameter is made outside of any layer's call."""

    def setup(self):
        self.dense = nn.Dense(3)

    @nn.compact
    def __call__(self, x):
        return self.head(x.reshape(len(x), -1))

    @nn.nowrap
    def head(self, x):
        return self.dense(x) * Gain(name="gain").value()


class Gain(nn.Module):
    @nn.compact
    def value(self):
        return self.param("gain", nn.initializers.ones, (3,))


class Dense(nn.Module):
    """It has the name of a Dense layer and another formula."""

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, (3,))
        kernel = self.param("kernel", nn.initializers.ones, (784, 3))
        return x.reshape(len(x), -1) @ kernel * scale


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        (MODEL, lambda params: params | {"conv2": {}}, r"params\['conv2'\]\['bias'\] is missing"),
        (
            MODEL,
            lambda params: params | {"x": jnp.ones(3)},
            r"\['x'\] is \(3,\) float32, but .* mi",
        ),
        (
            MODEL,
            lambda params: jax.tree.map(lambda x: x[..., :1], params),
            r"params\['conv1'\]\['bias'\] is \(1,\) float32, but the model's is \(4,\) float32",
        ),
        (Normed(), lambda params: params, "'LayerNorm_0' of Normed is a LayerNorm of 2 parameters"),
        (Loose(), lambda params: params, "'Loose' of Loose is a Loose of 3 parameters"),
        (
            nn.Sequential((Dense(),)),
            lambda params: params,
            "'layers_0' of Sequential is a Dense of 2,355 parameters",
        ),
        (
            nn.ConvTranspose(3, (2, 2)),
            lambda params: params,
            "is a ConvTranspose of 15 parameters: only Dense, BatchNorm and Conv in two dim",
        ),
    ],
)
def test_parameters_that_have_no_place_in_the_file_are_refused(model, change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_weights(tmp_path / "x.weights.h5", change(params_of(model)), model, SHAPE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("x.h5", "not from 'x.h5': change the name"),
        ("", "not from ''"),
        ("file/x.weights.h5", "file is not a folder that can"),
        ("folder.weights.h5", "is a folder: name a file in it"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_before_the_run(name, error, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.weights.h5").mkdir()
    with pytest.raises((ValueError, OSError), match=error):
        check_save(tmp_path / name if name else "", MODEL, SHAPE, overwrite=True)


def test_a_new_folder_is_made(tmp_path):
    path = tmp_path / "new" / "deep" / "x.weights.h5"
    save_weights(path, params_of(MODEL), MODEL, SHAPE)
    assert [item.name for item in path.parent.iterdir()] == ["x.weights.h5"]
