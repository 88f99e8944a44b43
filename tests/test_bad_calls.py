"""Bad arguments of public functions: a short error that names the mistake, nothing written."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxconv
from jaxconv.data.arrays import Dataset
from jaxconv.export import load_weights, save_weights
from jaxconv.models import ops
from jaxconv.runs import Checkpoints

SHAPE = (28, 28, 1)
IMAGE, LABEL = np.zeros((4, *SHAPE), np.uint8), np.array([0, 1, 2, 1])
LABELLED = {"image": IMAGE, "label": LABEL}
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


def evaluated(batch_size=200, **fields):
    batch = {"image": IMAGE, "label": LABEL, **fields}
    return lambda: jaxconv.evaluate(net(), state(), batch, batch_size=batch_size)


def many(**change):
    def call():
        given = {"keys": [jax.random.key(0)], "data": {"image": IMAGE, "label": LABEL}}
        given |= {"epochs": 1, "batch_size": 2, "make_state": lambda key: state()}
        return jaxconv.training.fit_seeds(net(), **(given | change))

    return call


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(10)(x.reshape(len(x), -1))
        return x + jax.random.normal(self.make_rng("noise"), x.shape)


class TwoHeads(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        return nn.Dense(10)(x), nn.Dense(2)(x)


class Flagged(nn.Module):
    @nn.compact
    def __call__(self, x, is_training: bool = False):
        return nn.Dense(10)(nn.Dropout(0.5, deterministic=not is_training)(x.reshape(len(x), -1)))


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        return nn.Dense(10)(nn.BatchNorm(use_running_average=not train)(x.reshape(len(x), -1)))


def masked_statistics():
    state = jaxconv.create_train_state(Normed(), TX, jax.random.key(0), SHAPE)
    batch = {"image": IMAGE, "label": LABEL, "mask": np.ones(4)}
    return jaxconv.make_train_step(Normed(), TX)(state, batch)


def trained(model, tx=TX):
    def call():
        own = jaxconv.classifier(model, tx)
        return own.train_step(own.init(jax.random.key(0), SHAPE), LABELLED)

    return call


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
    (arrays((1, np.eye(3)[LABEL])), r"not float64 \(4, 3\): for these one-hot labels pass"),
    (arrays((3, LABEL + 7), num_classes=3), r"test label at index 0 is 7, outside \[0, 3\)"),
    (arrays(num_classes=0), "num_classes must be a positive integer, not 0"),
    (arrays(num_classes=2**20 + 1), "1048577 classes are too many"),
    (lambda: arrays()().split_validation(1), r"must be in \[0, 1\), not 1"),
    (lambda: arrays()().split_validation(0.9), "leaves 0 of 4 samples to train"),
    (lambda: jaxconv.load_dataset("minst"), r"'minst' \(did you mean 'mnist'\?\)"),
    (lambda: jaxconv.create_model("lab7"), r"architecture 'lab7' \(did you mean 'lab6'\?\)"),
    (state_of(shape=(5, 5, 1)), "Layer 'conv2'.* does not fit into"),
    (state_of(shape=(28, 28)), r"\[batch, height, width, channels\], not \(1, 28, 28\)"),
    (state_of(shape=(None, *SHAPE)), r"one image, such as \(28, 28, 1\), not \(None, 28, 28, 1\)"),
    (lambda: jaxconv.summary(MODEL, 28), r"one image, such as \(28, 28, 1\), not 28\."),
    (state_of("dense", rng="0"), "rng must be a PRNG key such as .* not '0'"),
    (state_of("dense", params={}), r"params.* is missing, but the model's is"),
    (lambda: jaxconv.create_model("lab6", dtype="float64"), "jax_enable_x64"),
    (lambda: jaxconv.classifier(MODEL, TX, metrics={"loss": jaxconv.accuracy}), "rename"),
    (stepped({"image": IMAGE.astype(int), "label": LABEL}), "these are int(32|64): convert them"),
    (stepped({"image": IMAGE, "label": LABEL[:3]}), r"must be integers \(4,\) or .* not \(3,\)"),
    (stepped({"image": IMAGE, "label": LABEL[:, None]}), r"not \(4, 1\): pass label\[:, 0\]\."),
    (stepped({"image": IMAGE, "label": LABEL, "mask": np.ones(3)}), r"mask .* sample, \(4,\)"),
    (stepped({"image": IMAGE, "label": LABEL, "mask": np.ones(4)}), "pass booleans, not float"),
    (stepped({"image": IMAGE, "label": LABEL, "weight": np.ones(3)}), r"weight .* sample, \(4,\)"),
    (trained(Noisy()), "call self.make_rng.'dropout'.*needs PRNG for .noise"),
    (trained(TwoHeads()), r"must return logits \[N, classes\], not tuple"),
    (trained(MODEL, optax.lookahead(optax.sgd(0.1), 5, 0.5)), "The optimizer lookahead fails: "),
    (trained(Flagged()), "Flagged has Dropout, and its flag 'is_training' is not one of train, "),
    (trained("lab6"), r"not str: pass create_model\('lab6'\)"),
    (trained(Normed), "Normed is a class: pass a module"),
    (trained(MODEL, optax.adam), r"such as optax.adam\(1e-3\), not the function adam: call it"),
    (trained(MODEL, "adam"), "must be an optax transform such as .* not 'adam'"),
    (lambda: jaxconv.classifier(MODEL, jaxconv.rmsprop()).train_step(state(), LABELLED),
     "opt_state is ScaleByAdamState .* one's is ScaleByRmsState"),
    (masked_statistics, "masked batch would enter BatchNorm's statistics"),
    (fit(epochs=0), "epochs must be a positive integer, not 0"),
    (fit(batch_size=-1), "batch_size must be a positive integer, not -1"),
    (fit(batch_size=True), "batch_size must be a positive integer, not True"),
    (fit(chunks=2.5), "chunks must be a positive integer, not 2.5"),
    (fit(save_every=0), "save_every must be a positive integer, not 0"),
    (evaluated(batch_size=0), "batch_size must be a positive integer, not 0"),
    (evaluated(mask=np.zeros(4, bool)), "No sample was counted"),
    (evaluated(label=np.array([0, 1, 10, 3])), "label at index 2 is 10, but the net has 10"),
    (fit(callbacks=print), r"callbacks must be a list of functions, such as \[print\]"),
    (lambda: jaxconv.predict(net(), state(), jaxconv.load_dataset()), "such as data.train"),
    (many(data={"image": IMAGE, "label": LABEL - 1}), "label at index 0 is -1, but the net has 10"),
    (many(keys=[jax.random.key(0, impl="rbg")] * 2, strategy="vmap",
          make_state=lambda key: net().init(key, SHAPE)), "Keys of rbg draw other numbers"),
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
