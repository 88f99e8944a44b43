"""Nets as StableHLO, read back by JAX alone; the oracle is `predict`, in the CPU's own form."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import export

import jaxconv
from jaxconv.export.stablehlo import save_stablehlo
from jaxconv.models.convnet import ARCHITECTURES
from tests.models.lab6_nnx import Lab6
from tests.support.trained import SHAPE, trained

# Neither jaxconv nor Flax is there, as on the machine of somebody who was handed the file.
READER = """
import sys
sys.modules["jaxconv"] = sys.modules["flax"] = None
import numpy as np
from jax import export
with open("net.stablehlo", "rb") as file:
    net = export.deserialize(bytearray(file.read()))
image = np.load("image.npy")
np.savez("found.npz", *(net.call(image[:size]) for size in (1, 7, 100)))
"""


class Own(nn.Module):
    """A net of a user's own, with dropout, running statistics and a layer of jaxconv's."""

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        x = jaxconv.models.Conv(4, activation="relu")(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.max_pool(x, (4, 4), strides=(4, 4)).reshape(x.shape[0], -1)
        return nn.Dense(10)(nn.Dropout(0.5, deterministic=not train)(x))


def test_jax_alone_reads_a_net_and_calls_it_with_any_number_of_images(mnist, tmp_path):
    image, model = mnist.test.image[:100], jaxconv.create_model("lab6")
    state, expected = trained(model, image)
    save_stablehlo(tmp_path / "net.stablehlo", model, state, SHAPE)
    np.save(tmp_path / "image.npy", image)
    subprocess.run([sys.executable, "-I", "-c", READER], check=True, cwd=tmp_path)
    with np.load(tmp_path / "found.npz") as found:
        for size, probabilities in zip((1, 7, 100), found.values(), strict=True):
            np.testing.assert_allclose(probabilities, expected[:size], atol=1e-6)


@pytest.mark.parametrize("make", [Own, lambda: Lab6], ids=["Linen", "NNX"])
def test_nets_of_the_users_own_give_what_predict_gives(make, mnist, tmp_path):
    image = mnist.test.image[:30]
    state, expected = trained(make(), image)
    save_stablehlo(tmp_path / "own", make(), state, SHAPE)
    net = export.deserialize(bytearray((tmp_path / "own").read_bytes()))
    np.testing.assert_allclose(net.call(image), expected, atol=1e-6)
    assert net.platforms == ("cpu", "cuda", "tpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_notebooks_nets_give_what_predict_gives(name, dtype, mnist, tmp_path):
    image = mnist.test.image[:1000]
    image = image if dtype == "uint8" else image.astype(np.float32) / 255
    model = jaxconv.create_model(name)
    state, expected = trained(model, image)
    save_stablehlo(tmp_path / "net", model, state, SHAPE, input_dtype=dtype)
    net = export.deserialize(bytearray((tmp_path / "net").read_bytes()))
    np.testing.assert_allclose(net.call(image), expected, atol=1e-6)


class Length(nn.Module):
    """Asks for the number of images as Python's integer."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(x.reshape(len(x), -1))


class Branch(nn.Module):
    """Decides by the number of images."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10 if x.shape[0] < 99 else 11)(x.reshape(x.shape[0], -1))


@pytest.mark.parametrize("model", [Length(), Branch()], ids=["length", "branch"])
def test_a_net_for_a_known_number_of_images_is_refused(model, tmp_path):
    state = jaxconv.create_train_state(model, jaxconv.adam(), jax.random.key(0), (8, 8, 1))
    with pytest.raises(ValueError, match=r"^The net must compute for any .*: take .*x\.shape\[0\]"):
        save_stablehlo(tmp_path / "net", model, state, (8, 8, 1))
    assert [*tmp_path.iterdir()] == []


def test_bad_calls_write_nothing_and_lose_nothing(tmp_path):
    model, path = jaxconv.create_model("dense"), tmp_path / "net"
    state = jaxconv.create_train_state(model, jaxconv.adam(), jax.random.key(0), (8, 8, 1))
    with pytest.raises(ValueError, match=r"^params\['dense1'\]\['kernel'\] is \(64, 512\) float32"):
        save_stablehlo(path, model, state, SHAPE)
    with pytest.raises(ValueError, match=r"^Unknown input_dtype 'float64' .*: use one of uint8, f"):
        save_stablehlo(path, model, state, (8, 8, 1), input_dtype="float64")
    assert [*tmp_path.iterdir()] == []
    path.write_text("earlier")
    with pytest.raises(FileExistsError, match="is there already: name another, or"):
        save_stablehlo(path, model, state, (8, 8, 1))
    assert path.read_text() == "earlier"
    save_stablehlo(path, model, state, (8, 8, 1), overwrite=True)
    assert [*tmp_path.iterdir()] == [path]
    assert path.stat().st_size > 4 * 10 * 512
