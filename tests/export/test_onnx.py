"""Nets as ONNX, computed by onnxruntime; the oracle is `predict`. Skipped without jax2onnx."""

import importlib.util

import jax
import numpy as np
import pytest
from flax import linen as nn

import jaxconv
from jaxconv.export import onnx
from jaxconv.export.onnx import save_onnx
from jaxconv.models.convnet import ARCHITECTURES
from tests.support.trained import SHAPE, trained


def needs_jax2onnx(test):  # whose import takes seconds
    missing = not importlib.util.find_spec("jax2onnx")
    return pytest.mark.slow(pytest.mark.skipif(missing, reason="needs jax2onnx")(test))


knows_jax = pytest.mark.skipif(
    jax.__version_info__ >= (0, 12), reason="jax2onnx does not know this JAX"
)


def check(path, model, mnist, samples, dtype="uint8"):
    """Writes the net and compares what onnxruntime computes for batches of several sizes."""
    import onnxruntime

    image = mnist.test.image[:samples]
    image = image if dtype == "uint8" else image.astype(np.float32) / 255
    state, expected = trained(model, image)
    save_onnx(path, model, state, SHAPE, input_dtype=dtype)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", *SHAPE]
    for size in (1, 7, samples):
        (found,) = session.run(["probabilities"], {"image": image[:size]})
        np.testing.assert_allclose(found, expected[:size], atol=1e-5)


@needs_jax2onnx
@knows_jax
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_onnxruntime_computes_the_notebooks_nets(name, dtype, mnist, tmp_path):
    check(tmp_path / "net.onnx", jaxconv.create_model(name), mnist, 1000, dtype)


@needs_jax2onnx
@knows_jax
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pool": "avg", "pool_padding": "same"},
        {"pool_padding": "same", "strides": 2},
        {"pool_strides": 1, "pool_size": (3, 2)},
        {"padding": ((1, 0), (2, 1)), "activation": "gelu"},
    ],
    ids=str,
)
def test_onnxruntime_computes_nets_with_pooling(settings, mnist, tmp_path):
    model = jaxconv.ConvNet(filters=(4, 4), num_pools=2, **settings)
    check(tmp_path / "net.onnx", model, mnist, 20)


class Own(nn.Module):
    """A net of a user's own, whose pooling jax2onnx takes for one without padding."""

    @nn.compact
    def __call__(self, x):
        x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2), padding=((1, 1), (1, 1)))
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


@needs_jax2onnx
def test_a_net_that_jax2onnx_cannot_write_is_refused(tmp_path):
    state = jaxconv.create_train_state(Own(), jaxconv.adam(), jax.random.key(0), (8, 8, 1))
    with pytest.raises(ValueError, match=r"^jax2onnx \S+ with JAX \S+ cannot write this net as .*"):
        save_onnx(tmp_path / "net.onnx", Own(), state, (8, 8, 1))
    assert [*tmp_path.iterdir()] == []


@needs_jax2onnx
@knows_jax
def test_a_file_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    model = jaxconv.create_model("dense", hidden=())
    state = jaxconv.create_train_state(model, jaxconv.adam(), jax.random.key(0), (8, 8, 1))
    with pytest.raises(ValueError, match=r"^jax2onnx \S+ writes a net .* differ .* nothing was wr"):
        save_onnx(tmp_path / "net.onnx", model, state, (8, 8, 1))
    assert [*tmp_path.iterdir()] == []


def test_without_jax2onnx_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    state = jaxconv.TrainState(np.int32(0), {}, (), jax.random.key(0), {})
    message = r"^Not installed: .*jax2onnx\. .*jaxconv\[export\]"
    with pytest.raises(ModuleNotFoundError, match=message):
        save_onnx(tmp_path / "net.onnx", jaxconv.create_model("dense"), state, SHAPE)
