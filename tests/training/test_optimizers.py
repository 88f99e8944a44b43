import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxconv import adam, learning_rate_schedule, regularize, rmsprop

STEPS = 50
GRADIENTS = np.random.default_rng(0).normal(size=(STEPS, 7)) * np.logspace(-6, 1, 7)
START = np.linspace(-1, 1, 7)


def run(tx: optax.GradientTransformation) -> np.ndarray:
    params = {"a": jnp.asarray(START[:3]), "b": {"c": jnp.asarray(START[3:])}}
    state = tx.init(params)
    for g in GRADIENTS:
        gradients = {"a": jnp.asarray(g[:3]), "b": {"c": jnp.asarray(g[3:])}}
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    return np.concatenate(jax.tree.leaves(params))


def adam_in_numpy(rate: float, beta_1: float, beta_2: float, epsilon: float) -> np.ndarray:
    p, m, v = START.copy(), np.zeros(7), np.zeros(7)
    for t, g in enumerate(GRADIENTS, start=1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        alpha = rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        p = p - alpha * m / (np.sqrt(v) + epsilon)
    return p


def rmsprop_in_numpy(rate: float, rho: float, epsilon: float) -> np.ndarray:
    p, v = START.copy(), np.zeros(7)
    for g in GRADIENTS:
        v = rho * v + (1 - rho) * g**2
        p = p - rate * g / np.sqrt(v + epsilon)
    return p


@pytest.mark.usefixtures("x64")
def test_adam_and_rmsprop_match_numpy():
    np.testing.assert_allclose(run(adam()), adam_in_numpy(1e-3, 0.9, 0.999, 1e-7), rtol=1e-12)
    np.testing.assert_allclose(
        run(adam(0.01, beta_1=0.8, beta_2=0.99, epsilon=1e-3)),
        adam_in_numpy(0.01, 0.8, 0.99, 1e-3),
        rtol=1e-12,
    )
    np.testing.assert_allclose(run(rmsprop()), rmsprop_in_numpy(1e-3, 0.9, 1e-7), rtol=1e-12)
    np.testing.assert_allclose(
        run(rmsprop(0.01, rho=0.5, epsilon=1e-3)), rmsprop_in_numpy(0.01, 0.5, 1e-3), rtol=1e-12
    )


def keras_steps(optimizer) -> np.ndarray:
    """The parameters after the steps of `run`, taken by an optimizer of Keras."""
    import keras

    variables = [keras.Variable(x, dtype="float64") for x in (START[:3], START[3:])]
    optimizer.build(variables)
    for g in GRADIENTS:
        optimizer.apply([jnp.asarray(g[:3]), jnp.asarray(g[3:])])
    return np.concatenate([np.asarray(x.value) for x in variables])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["adam", "rmsprop"])
@pytest.mark.parametrize("scheduled", [False, True])
def test_weight_decay_and_clipping_match_keras(name, scheduled):
    import keras

    keras.config.set_floatx("float64")
    try:
        make, theirs = {
            "adam": (adam, keras.optimizers.Adam),
            "rmsprop": (rmsprop, keras.optimizers.RMSprop),
        }[name]
        rate = learning_rate_schedule("cosine", 0.01, STEPS) if scheduled else 0.01
        keras_rate = keras.optimizers.schedules.CosineDecay(0.01, STEPS) if scheduled else 0.01
        own = {"weight_decay": 0.1, "global_clipnorm": 2.0}
        found = run(regularize(make(rate), rate, **own))
        expected = keras_steps(theirs(keras_rate, **own))
    finally:
        keras.config.set_floatx("float32")
    # Keras computes its schedule in float32.
    np.testing.assert_allclose(found, expected, rtol=1e-6 if scheduled else 1e-11)
    assert abs(found - run(make(rate))).max() > 1e-3


def test_nothing_is_added_to_an_optimizer_without_decay_and_limit():
    tx = adam()
    assert regularize(tx, 1e-3) is tx


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_decay": -1.0}, "weight_decay must be 0 or a positive number, not -1.0"),
        ({"weight_decay": float("nan")}, "weight_decay .* not nan"),
        ({"global_clipnorm": 0.0}, "global_clipnorm must be a positive number, not 0.0"),
        ({"global_clipnorm": float("inf")}, "global_clipnorm .* not inf"),
    ],
)
def test_decay_and_limit_without_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        regularize(adam(), 1e-3, **settings)


@pytest.mark.usefixtures("x64")
def test_optax_adam_is_not_keras_adam():
    assert abs(run(adam()) - run(optax.adam(1e-3, eps=1e-7))).max() > 1e-5


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_keras_itself_takes_the_same_steps(name):
    import keras

    theirs = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop}[name]()
    variable = keras.Variable(START.astype(np.float32))
    theirs.build([variable])
    for g in GRADIENTS:
        theirs.apply([jnp.asarray(g, jnp.float32)], [variable])
    ours = run({"adam": adam, "rmsprop": rmsprop}[name]())
    np.testing.assert_allclose(ours, np.asarray(variable.value), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("make", [adam, rmsprop])
def test_bfloat16_parameters_move(make):
    params = jnp.zeros(3, jnp.bfloat16)
    tx = make(0.5)
    updates, _ = tx.update(jnp.ones(3, jnp.bfloat16), tx.init(params))
    expected, _ = tx.update(jnp.ones(3), tx.init(jnp.zeros(3)))
    assert updates.dtype == jnp.bfloat16
    np.testing.assert_allclose(updates.astype(jnp.float32), expected, rtol=0.02)


@pytest.mark.parametrize("make", [adam, rmsprop])
def test_the_learning_rate_may_be_a_schedule(make):
    constant = run(make(1e-3))
    np.testing.assert_allclose(run(make(optax.constant_schedule(1e-3))), constant, rtol=1e-6)
    assert (run(make(optax.linear_schedule(1e-3, 0.0, 10))) != constant).all()


@pytest.mark.parametrize("make", [adam, rmsprop])
def test_a_gradient_through_a_step_is_finite_where_a_parameter_got_none(make):
    """As those behind a dead relu: their second moment is 0."""

    def after(p):
        grads, tx = jnp.array([1.0, 0.0]) * p, make(0.1)
        return optax.apply_updates(p, tx.update(grads, tx.init(p))[0]).sum()

    slope = jax.grad(after)(jnp.array([2.0, 3.0]))
    assert np.isfinite(slope).all()
    assert slope[1] == 1  # it stays where it is
