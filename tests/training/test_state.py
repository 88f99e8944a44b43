import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jaxconv
from jaxconv import create_model, create_train_state
from jaxconv._checks import check_params

SHAPE = (28, 28, 1)
TX = jaxconv.rmsprop()


class CallCounter(nn.Module):
    """A model with variables for which a state has no place."""

    @nn.compact
    def __call__(self, x):
        self.variable("cache", "calls", jnp.zeros, ())
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


def test_the_state_holds_arrays_alone():
    state = create_train_state(create_model("dropout"), TX, jax.random.key(0), SHAPE)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(state))


def test_a_model_that_does_not_fit_a_state_or_the_images_is_refused():
    with pytest.raises(ValueError, match=r"variables in \['cache'\]"):
        create_train_state(CallCounter(), TX, jax.random.key(0), SHAPE)
    with pytest.raises(ValueError, match="'conv3'"):
        create_train_state(create_model("lab6"), TX, jax.random.key(0), (12, 12, 1))


@pytest.mark.usefixtures("untyped")
def test_a_seed_in_place_of_a_key_is_refused():
    with pytest.raises(TypeError, match=r"jax\.random\.key\(0\), not 3"):
        create_train_state(create_model("dense"), TX, 3, SHAPE)


def test_the_parameters_come_from_the_documented_key():
    rng, model = jax.random.key(5), jaxconv.ConvNet(dropout_rate=0.5)
    state = create_train_state(model, TX, rng, SHAPE)
    expected = model.init(jax.random.fold_in(rng, 2), jnp.zeros((1, *SHAPE)))["params"]
    jax.tree.map(np.testing.assert_array_equal, state.params, expected)
    assert jnp.array_equal(state.rng, rng)


def test_raw_keys_give_the_same_parameters():
    model = create_model("dense")
    raw = create_train_state(model, TX, np.asarray(jax.random.PRNGKey(0)), SHAPE)
    typed = create_train_state(model, TX, jax.random.key(0), SHAPE)
    jax.tree.map(np.testing.assert_array_equal, raw.params, typed.params)
    assert raw.rng == typed.rng


def test_given_parameters_replace_random_ones():
    model, shape = create_model("dense", hidden=(3,)), (4, 4, 1)
    remember = optax.GradientTransformation(lambda params: params, lambda g, s, p=None: (g, s))
    random = create_train_state(model, remember, jax.random.key(0), shape)
    given = jax.tree.map(lambda x: np.asarray(x) + 1, random.params)
    state = create_train_state(model, remember, jax.random.key(0), shape, params=given)
    for tree in (state.params, state.opt_state):
        jax.tree.map(np.testing.assert_array_equal, tree, given)
    assert jnp.array_equal(state.rng, random.rng)
    assert int(state.step) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p | {"logits": {}}, r"params\['logits'\]\['bias'\] is missing, but the model's"),
        (lambda p: p | {"x": p["logits"]}, r"\['x'\]\['bias'\] is \(10,\) float32, but .* missing"),
        (
            lambda p: jax.tree.map(lambda x: x.astype(jnp.bfloat16), p),
            r"\['dense1'\]\['bias'\] is \(3,\) bfloat16, but the model's is \(3,\) float32: pass",
        ),
    ],
)
def test_given_parameters_of_another_model_are_refused(change, message):
    model, shape = create_model("dense", hidden=(3,)), (4, 4, 1)
    params = create_train_state(model, jaxconv.adam(), jax.random.key(0), shape).params
    with pytest.raises(ValueError, match=message):
        create_train_state(model, jaxconv.adam(), jax.random.key(0), shape, params=change(params))
    with pytest.raises(ValueError, match=message):
        check_params(change(params), params)
