"""Nets of other kinds: NNX ones, by class, by function, and through Flax' bridge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxconv
from jaxconv.models.forward import as_float, as_linen, call_arguments, model_dtype
from jaxconv.training.step import eval_logits
from tests.models.lab6_nnx import Lab6
from tests.support.oracles import bits

SHAPE = (28, 28, 1)


class Noisy(nnx.Module):
    """Dropout and BatchNorm, which behave differently in training."""

    def __init__(self, rngs: nnx.Rngs):
        self.dense = nnx.Linear(784, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.logits = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, image):
        x = self.dense(image.reshape(len(image), -1))
        return self.logits(self.dropout(nnx.relu(self.norm(x))))


WAYS = {
    "class": Noisy,
    "function": lambda rngs: Noisy(rngs=rngs),
    "bridge": nnx.bridge.to_linen(Noisy),
    "bridge without metadata": nnx.bridge.ToLinen(Noisy, metadata_fn=None),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_nnx_net_with_dropout_and_batch_norm_trains(way, digits):
    net = jaxconv.classifier(WAYS[way], jaxconv.adam())
    start = net.init(jax.random.key(0), SHAPE)
    assert jax.tree.map(jnp.shape, start.batch_stats) == {"norm": {"mean": (16,), "var": (16,)}}
    state, history = jaxconv.fit(net, start, digits.train, epochs=20, batch_size=30)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert jaxconv.evaluate(net, state, digits.test)["accuracy"] > 0.6
    moved = jax.tree.map(np.array_equal, state.batch_stats, start.batch_stats)
    assert not any(jax.tree.leaves(moved))
    again, _ = jaxconv.fit(net, start, digits.train, epochs=20, batch_size=30)
    assert bits(again) == bits(state)


def test_all_ways_lead_to_the_same_bits(digits):
    batch = {name: x[:8] for name, x in digits.train.batch().items()}
    found = set()
    for way in WAYS.values():
        net = jaxconv.classifier(way, jaxconv.adam())
        found.add(bits(net.train_step(net.init(jax.random.key(0), SHAPE), batch)[0]))
    assert len(found) == 1


class Training(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        return nn.Dropout(0.5, deterministic=not training)(nn.Dense(10)(x.reshape(len(x), -1)))


class Deterministic(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
        return nn.Dropout(0.5)(nn.Dense(10)(x.reshape(len(x), -1)), deterministic=deterministic)


@pytest.mark.parametrize("model", [Noisy, Training(), Deterministic()])
def test_dropout_is_off_in_evaluation_and_new_in_every_step(model, digits):
    net = jaxconv.classifier(model, jaxconv.adam(0.0))
    state = net.init(jax.random.key(0), SHAPE)
    batch = {name: x[:8] for name, x in digits.train.batch().items()}
    later = state._replace(step=state.step + 1)
    losses = [float(net.train_step(x, batch)[1]["loss"]) for x in (state, state, later)]
    assert losses[0] == losses[1] != losses[2]
    assert float(net.eval_step(state, batch)["loss"]) == float(net.eval_step(later, batch)["loss"])


def test_the_nnx_twin_of_lab6_gives_the_same_logits_to_the_bit(digits):
    """The same parameters one to one, and the same bits from them."""
    ours = jaxconv.create_model("lab6", form="xla")
    net, twin = (jaxconv.classifier(x, jaxconv.rmsprop()) for x in (ours, Lab6))
    state, other = (x.init(jax.random.key(0), SHAPE) for x in (net, twin))
    assert jax.tree.map(jnp.shape, other.params) == jax.tree.map(jnp.shape, state.params)
    same = twin.init(jax.random.key(0), SHAPE, params=state.params)
    image = digits.test.image
    np.testing.assert_array_equal(
        jax.jit(twin.predict)(same, image), jax.jit(net.predict)(state, image)
    )
    logits = jax.jit(eval_logits, static_argnums=0)
    np.testing.assert_array_equal(logits(as_linen(Lab6), same, image), logits(ours, state, image))


def test_a_module_with_a_train_argument_gets_it():
    class Flagged(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, image, train):
            return self.dense(image.reshape(len(image), -1)) + (1.0 if train else 0.0)

    net = jaxconv.classifier(Flagged, jaxconv.adam())
    state = net.init(jax.random.key(0), (2, 2, 1))
    batch = {"image": np.zeros((1, 2, 2, 1), np.float32), "label": np.zeros(1, np.int32)}
    assert net.predict(state, batch["image"]).shape == (1, 2)
    assert float(net.train_step(state, batch)[1]["loss"]) == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: nnx.Linear(4, 2, rngs=nnx.Rngs(0)), "makes an NNX module.*not Linear"),
        (lambda: nn.Dense, "Dense is a class: pass a module"),
        (lambda: "lab6", "must be a Linen module.*not str"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_what_is_no_model_is_refused(model, message):
    with pytest.raises(TypeError, match=message):
        jaxconv.classifier(model(), jaxconv.adam())


def test_a_linen_module_stays():
    dense = nn.Dense(2)
    assert as_linen(dense) is dense


class Plain(nn.Module):
    """A classifier without a dtype and without a `train` argument."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


def test_a_models_dtype_is_its_own_or_float32():
    assert model_dtype(jaxconv.create_model("dense", dtype=jnp.bfloat16)) == jnp.bfloat16
    for without_dtype in (nn.Dense(10), Plain()):
        assert model_dtype(without_dtype) == jnp.float32


def test_only_a_model_that_takes_train_gets_it():
    assert call_arguments(jaxconv.create_model("dense"), train=True) == {"train": True}
    assert call_arguments(Plain(), train=True) == {}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_uint8_images_are_scaled_to_the_models_dtype(dtype):
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = as_float(levels, jaxconv.create_model("dense", dtype=dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found.astype(jnp.float32), levels / 255, rtol=float(jnp.finfo(dtype).eps)
    )


def test_floating_point_images_pass_and_other_integers_are_refused():
    image = np.linspace(-3, 300, 12, dtype=np.float16).reshape(1, 3, 4, 1)
    found = as_float(image, nn.Dense(10))
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, image)
    with pytest.raises(ValueError, match=r"uint8, .* these are int32: convert them"):
        as_float(image.astype(np.int32), nn.Dense(10))
