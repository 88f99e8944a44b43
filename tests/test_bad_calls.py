"""Bad arguments of public functions: a short error that names the mistake, nothing written."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv.data.arrays import Dataset
from jaxconv.export import load_weights, save_weights
from jaxconv.models import ops
from jaxconv.runs import Checkpoints

SHAPE = (28, 28, 1)
IMAGE, LABEL = np.zeros((4, *SHAPE), np.uint8), np.array([0, 1, 2, 1])
FLOATS = np.full((4, *SHAPE), np.nan, np.float32)
MODEL = jaxconv.create_model("dense", hidden=(8,))
TX = jaxconv.adam()


@functools.cache
def net():
    return jaxconv.classifier(MODEL, TX)


@functools.cache
def state():
    return net().init(jax.random.key(0), SHAPE)


def arrays(*changed, **options):
    given = [IMAGE, LABEL, IMAGE, LABEL]
    for place, value in changed:
        given[place] = value
    return lambda: Dataset.from_arrays(*given, **options)


def fit(**change):
    def call():
        options = {"epochs": 1, "batch_size": 2, **change}
        return jaxconv.fit(net(), state(), {"image": IMAGE, "label": LABEL}, **options)

    return call


def stepped(batch):
    return lambda: net().train_step(state(), batch)


def many(**change):
    def call():
        given = {"keys": [jax.random.key(0)], "data": {"image": IMAGE, "label": LABEL}}
        given |= {"epochs": 1, "batch_size": 2}
        return jaxconv.training.fit_seeds(net(), lambda key: state(), **(given | change))

    return call


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        return nn.Dense(10)(nn.BatchNorm(use_running_average=not train)(x.reshape(len(x), -1)))


def masked_statistics():
    state = jaxconv.create_train_state(Normed(), TX, jax.random.key(0), SHAPE)
    batch = {"image": IMAGE, "label": LABEL, "mask": np.ones(4)}
    return jaxconv.make_train_step(Normed(), TX)(state, batch)


def state_of(model="lab6", rng=0, shape=SHAPE, **more):
    rng = jax.random.key(rng) if isinstance(rng, int) else rng
    return lambda: jaxconv.create_train_state(jaxconv.create_model(model), TX, rng, shape, **more)


FUNCTIONS = [
    (arrays((0, IMAGE[..., 0])), r"train images must be .* not \(4, 28, 28\): add the channel"),
    (arrays((0, IMAGE[0, 0])), r"train images must be .* not \(28, 1\)"),
    (arrays((0, IMAGE.astype(np.int64))), "must be one of uint8, .* not int64"),
    (arrays((2, IMAGE.astype("O"))), "The test images must be one of uint8, .* not object"),
    (arrays((0, FLOATS), (2, FLOATS)), r"The train images hold nan at index \(0, 0, 0, 0\)"),
    (arrays((0, IMAGE[:3])), "train split has 3 images and 4 labels"),
    (arrays((0, IMAGE[:0]), (1, LABEL[:0])), "train split is empty"),
    (arrays((0, IMAGE[:, :0])), r"train split is empty: its images have shape \(4, 0, 28, 1\)"),
    (arrays((2, IMAGE[:, :27])), r"differ in shape: \(28, 28, 1\) and \(27, 28, 1\)"),
    (arrays((2, IMAGE / np.float32(255))), "differ in dtype: uint8 and float32"),
    (arrays((1, LABEL - 1)), r"train label at index 0 is -1, outside \[0, 3\)"),
    (arrays((1, LABEL + 0.5)), r"labels must be integers \[samples\], not float64"),
    (arrays((1, np.eye(3)[LABEL])), r"not float64 \(4, 3\): for one-hot labels pass label.argmax"),
    (arrays((3, LABEL + 7), num_classes=3), r"test label at index 0 is 7, outside \[0, 3\)"),
    (arrays(num_classes=0), "num_classes must be a positive integer, not 0"),
    (arrays(num_classes=2**31), "2147483648 classes are too many"),
    (lambda: arrays()().split_validation(1), r"must be in \[0, 1\), not 1"),
    (lambda: arrays()().split_validation(0.9), "leaves 0 of 4 samples to train"),
    (lambda: jaxconv.load_dataset("minst"), r"'minst' \(did you mean 'mnist'\?\)"),
    (lambda: jaxconv.create_model("lab7"), r"architecture 'lab7' \(did you mean 'lab6'\?\)"),
    (state_of(shape=(5, 5, 1)), "Layer 'conv2'.* does not fit into"),
    (state_of(shape=(28, 28)), r"\[batch, height, width, channels\], not \(1, 28, 28\)"),
    (state_of("dense", rng="0"), "rng must be a PRNG key such as .* not '0'"),
    (state_of("dense", params={}), r"params.* is missing, but the model's is"),
    (lambda: jaxconv.create_model("lab6", dtype="float64"), "jax_enable_x64"),
    (lambda: jaxconv.classifier(MODEL, TX, metrics={"loss": jaxconv.accuracy}), "rename"),
    (stepped({"image": IMAGE.astype(int), "label": LABEL}), "these are int(32|64): convert them"),
    (stepped({"image": IMAGE, "label": LABEL[:3]}), r"must be integers \(4,\) or .* not \(3,\)"),
    (stepped({"image": IMAGE, "label": LABEL, "mask": np.ones(3)}), r"value per sample, \(4,\)"),
    (masked_statistics, "masked batch would enter BatchNorm's statistics"),
    (fit(epochs=0), "epochs must be a positive integer, not 0"),
    (fit(batch_size=-1), "batch_size must be a positive integer, not -1"),
    (fit(batch_size=True), "batch_size must be a positive integer, not True"),
    (fit(chunks=2.5), "chunks must be a positive integer, not 2.5"),
    (fit(save_every=0), "save_every must be a positive integer, not 0"),
    (lambda: jaxconv.evaluate(net(), state(), {"image": IMAGE, "label": LABEL}, batch_size=0),
     "batch_size must be a positive integer, not 0"),
    (lambda: jaxconv.evaluate(net(), state(), {"image": IMAGE, "label": LABEL,
                                               "mask": np.zeros(4)}), "No sample was counted"),
    (many(keys=[]), "There is no key"),
    (many(epochs=-1), "epochs must be a positive integer, not -1"),
    (many(group=0), "group must be a positive integer, not 0"),
    (many(strategy="pmap"), r"Unknown strategy 'pmap' \(did you mean 'map'\?\)"),
    (many(save=print), "pass keep_states=False"),
    (lambda: Checkpoints("x", every=0), "every must be a positive integer, not 0"),
    (lambda: Checkpoints("x", every="epochs"), "every must be .* not 'epochs'"),
    (lambda: Checkpoints("x", keep=0), "keep must be a positive integer, not 0"),
    (lambda: Checkpoints("x", settings={"rate": float("nan")}), "rate|JSON"),
    (lambda: load_weights("lost.keras", MODEL, SHAPE), "There is no file lost.keras"),
    (lambda: load_weights("x.pt", MODEL, SHAPE), "not in 'x.pt'"),
    (lambda: save_weights("x.h5", state().params, MODEL, SHAPE), "'x.h5'"),
    (lambda: jaxconv.summary(jaxconv.create_model("lab6"), (4, 4, 1)), "does not fit into"),
    (lambda: ops.conv(jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 1, 1))), "2 channels and the"),
    (lambda: ops.conv(jnp.zeros((4, 4)), jnp.zeros((3, 3, 1, 1))), r"channels\], not \(4, 4\)"),
    (lambda: ops.max_pool(jnp.zeros((1, 4, 4, 1)), 5), "does not fit into 4×4"),
    (lambda: ops.max_pool(jnp.zeros((1, 4, 4, 1)), 0), "0"),
    (lambda: ops.conv(jnp.zeros((1, 4, 4, 1)), jnp.zeros((3, 3, 1, 1)), strides=0), "strides"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"), FUNCTIONS, ids=lambda x: x if isinstance(x, str) else ""
)
@pytest.mark.usefixtures("untyped")
def test_a_public_function_names_the_mistake(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, TypeError, OSError)) as error:
        call()
    assert re.search(message, str(error.value).replace("\n", " ")), error.value
    assert len(str(error.value)) < 400
    assert list(tmp_path.iterdir()) == []
