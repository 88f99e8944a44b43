import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax import lax

import jaxconv
from jaxconv import create_model, create_train_state, make_eval_step, make_train_step
from tests.support import oracles

SHAPE = (28, 28, 1)
TX = jaxconv.rmsprop()


@pytest.fixture
def batch(digits) -> dict:
    return {"image": jnp.asarray(digits.train.image[:32]), "label": digits.train.label[:32]}


def assert_close(a, b, tolerance=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=tolerance), a, b)


def without_key(state):
    return state._replace(rng=jax.random.key_data(state.rng))


def test_a_step_is_gradient_descent_on_the_mean_loss(batch):
    """SGD on logistic regression, against its closed form in NumPy."""
    model, tx = jaxconv.ConvNet(), optax.sgd(0.5)
    state = create_train_state(model, tx, jax.random.key(0), SHAPE)
    kernel = np.asarray(state.params["logits"]["kernel"], np.float64)
    x = np.asarray(batch["image"], np.float64).reshape(32, -1) / 255
    one_hot = np.eye(10)[batch["label"]]
    log_p = oracles.log_softmax(x @ kernel)
    error = (np.exp(log_p) - one_hot) / 32
    state, sums = jax.jit(make_train_step(model, tx))(state, batch)
    np.testing.assert_allclose(
        state.params["logits"]["kernel"], kernel - 0.5 * x.T @ error, atol=1e-6
    )
    np.testing.assert_allclose(state.params["logits"]["bias"], -0.5 * error.sum(0), atol=1e-6)
    assert float(sums["loss"]) == pytest.approx(-(log_p * one_hot).sum(), rel=1e-5)
    assert int(sums["accuracy"]) == (log_p.argmax(1) == batch["label"]).sum()
    assert (int(sums["count"]), int(state.step)) == (32, 1)


def test_integer_images_are_scaled_and_floats_pass(batch):
    model = create_model("dense")
    state = create_train_state(model, TX, jax.random.key(0), SHAPE)
    step = jax.jit(make_train_step(model, TX))
    scaled = {**batch, "image": batch["image"].astype(jnp.float32) / 255}
    assert_close(without_key(step(state, batch)[0]), without_key(step(state, scaled)[0]))


def test_one_hot_and_integer_losses_take_the_same_step(batch):
    model = create_model("dropout")
    state = create_train_state(model, TX, jax.random.key(0), SHAPE)
    one_hot = jaxconv.one_hot_labels(jaxconv.categorical_crossentropy)
    after = [jax.jit(make_train_step(model, TX))(state, batch)]
    after += [jax.jit(make_train_step(model, TX, loss=one_hot))(state, batch)]
    soft = {**batch, "label": jax.nn.one_hot(batch["label"], 10)}
    direct = make_train_step(model, TX, loss=jaxconv.categorical_crossentropy)
    after += [jax.jit(direct)(state, soft)]
    for state_after, sums in after[1:]:
        assert_close(without_key(state_after), without_key(after[0][0]))
        assert_close(sums, after[0][1], 1e-4)


@pytest.mark.slow
def test_a_masked_batch_is_the_batch_without_its_masked_samples(batch):
    model = create_model("lab6")
    state = create_train_state(model, TX, jax.random.key(0), SHAPE)
    mask = jnp.arange(32) < 20
    padded = {**batch, "mask": mask, "image": batch["image"].at[20:].set(255)}
    short = jax.tree.map(lambda x: x[:20], batch)
    step = jax.jit(make_train_step(model, TX))
    (a, sums_a), (b, sums_b) = step(state, padded), step(state, short)
    # RMSprop's first step is almost the gradient's sign, which rounding decides near 0.
    assert_close(a.opt_state, b.opt_state)
    assert_close(sums_a, sums_b, 1e-5)
    assert_close(make_eval_step(model)(state, padded), make_eval_step(model)(state, short), 1e-5)
    nothing, sums = step(state, {**batch, "mask": jnp.zeros(32, bool)})
    assert_close(nothing.params, state.params)
    assert int(sums["count"]) == 0


def test_a_users_own_metrics_are_summed(batch):
    def top2(logits, labels):
        return (jnp.argsort(logits)[:, -2:] == labels[:, None]).any(axis=-1)

    model = create_model("dense")
    state = create_train_state(model, TX, jax.random.key(0), SHAPE)
    sums = make_eval_step(model, metrics={"top2": top2})(state, batch)
    assert sorted(sums) == ["count", "loss", "top2"]
    assert int(sums["top2"]) >= int(make_eval_step(model)(state, batch)["accuracy"])
    scalar = make_eval_step(model, metrics={"bad": lambda logits, labels: logits.sum()})
    with pytest.raises(
        ValueError, match=r"'bad' must give one value per sample, \(32,\), not \(\)"
    ):
        scalar(state, batch)
    with pytest.raises(ValueError, match="report count themselves: rename the metric"):
        make_train_step(model, TX, metrics={"count": top2})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": jnp.ones((32, 28, 28, 1), jnp.int32)}, "these are int32: convert them"),
        (
            {"mask": jnp.ones((32, 1))},
            r"must have one value per sample, \(32,\), not \(32, 1\)",
        ),
        ({"label": jnp.zeros((32, 1), int)}, r"integers \(32,\) or one-hot .* not \(32, 1\)"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(batch, change, message):
    model = create_model("dense")
    state = create_train_state(model, TX, jax.random.key(0), SHAPE)
    with pytest.raises(ValueError, match=message):
        make_train_step(model, TX)(state, batch | change)


@pytest.mark.parametrize(
    "tx",
    [
        optax.polyak_sgd(),
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
        optax.lbfgs(),
    ],
)
def test_transforms_that_need_the_loss_get_it(batch, tx):
    model = jaxconv.ConvNet()
    state = create_train_state(model, tx, jax.random.key(0), SHAPE)
    step = jax.jit(make_train_step(model, tx))
    losses = []
    for _ in range(5):
        state, sums = step(state, batch)
        losses.append(float(sums["loss"]))
    assert losses[-1] < losses[0]


def test_transforms_get_the_mean_loss_and_zero_without_samples(batch):
    def update(updates, state, params=None, *, value, **_):
        return updates, value

    tx = optax.GradientTransformationExtraArgs(lambda params: jnp.zeros(()), update)
    model = jaxconv.ConvNet()
    state = create_train_state(model, tx, jax.random.key(0), SHAPE)
    after, sums = make_train_step(model, tx)(state, {**batch, "mask": jnp.arange(32) < 20})
    assert float(after.opt_state) == pytest.approx(float(sums["loss"]) / 20, rel=1e-6)
    after, _ = make_train_step(model, tx)(state, {**batch, "mask": jnp.zeros(32, bool)})
    assert float(after.opt_state) == 0.0


def test_the_dropout_key_is_the_documented_one(batch):
    """It is fold_in(fold_in(rng, 1), step)."""
    rng, model = jax.random.key(5), jaxconv.ConvNet(dropout_rate=0.5)
    state = create_train_state(model, TX, rng, SHAPE)
    key = jax.random.fold_in(jax.random.fold_in(rng, 1), 7)
    variables = {"params": state.params}
    logits = model.apply(variables, batch["image"] / 255.0, train=True, rngs={"dropout": key})
    expected = jaxconv.sparse_categorical_crossentropy(logits, jnp.asarray(batch["label"])).sum()
    _, sums = make_train_step(model, TX)(state._replace(step=jnp.asarray(7)), batch)
    assert float(sums["loss"]) == pytest.approx(float(expected), rel=1e-6)


def test_a_raw_key_gives_the_dropout_of_the_typed_one(batch):
    model = jaxconv.ConvNet(dropout_rate=0.5)
    keys = (np.asarray(jax.random.PRNGKey(0)), jax.random.key(0))
    step = make_train_step(model, TX)
    raw, typed = (step(create_train_state(model, TX, key, SHAPE), batch)[1]["loss"] for key in keys)
    assert float(raw) == float(typed)


class Plain(nn.Module):
    """A user's classifier, which has no `train` argument and no dtype."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Conv(4, (3, 3), strides=2)(x)).reshape(x.shape[0], -1))


class Normed(nn.Module):
    """A user's classifier with BatchNorm."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Conv(4, (3, 3))(x))
        return nn.Dense(10)(x.mean(axis=(1, 2)))


def test_any_linen_classifier_and_any_optax_transform_train(batch):
    tx = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(0.01, 50))
    )
    state = create_train_state(Plain(), tx, jax.random.key(0), SHAPE)
    step = jax.jit(make_train_step(Plain(), tx))
    losses = []
    for _ in range(30):
        state, sums = step(state, batch)
        losses.append(float(sums["loss"]))
    assert losses[-1] < 0.3 * losses[0]


def test_batch_norm_keeps_running_statistics_and_refuses_masks(batch):
    state = create_train_state(Normed(), TX, jax.random.key(0), SHAPE)
    before = state.batch_stats["BatchNorm_0"]["mean"]
    after, _ = make_train_step(Normed(), TX)(state, batch)
    maps = nn.Conv(4, (3, 3)).apply({"params": state.params["Conv_0"]}, batch["image"] / 255.0)
    np.testing.assert_allclose(
        after.batch_stats["BatchNorm_0"]["mean"],
        0.9 * before + 0.1 * maps.mean(axis=(0, 1, 2)),
        atol=1e-6,
    )
    make_eval_step(Normed())(after, {**batch, "mask": jnp.ones(32, bool)})
    with pytest.raises(ValueError, match="BatchNorm's statistics"):
        make_train_step(Normed(), TX)(state, {**batch, "mask": jnp.ones(32, bool)})


@pytest.mark.slow
def test_vmap_over_states_is_each_state_alone(batch):
    model = create_model("dropout")
    keys = jax.random.split(jax.random.key(0), 3)
    make = functools.partial(create_train_state, model, TX, input_shape=SHAPE)
    step = make_train_step(model, TX)
    together, sums = jax.jit(jax.vmap(step, in_axes=(0, None)))(jax.vmap(make)(keys), batch)
    for i, key in enumerate(keys):
        alone, alone_sums = jax.jit(step)(make(key), batch)
        member = jax.tree.map(lambda x, i=i: x[i], together)
        assert_close(member.opt_state, alone.opt_state)
        assert_close(jax.tree.map(lambda x, i=i: x[i], sums), alone_sums, 1e-4)


def test_scan_is_a_loop_of_steps(digits):
    model = create_model("strided")
    step = make_train_step(model, jaxconv.adam())
    state = create_train_state(model, jaxconv.adam(), jax.random.key(0), SHAPE)
    image = digits.train.image[:96].reshape(3, 32, *SHAPE)
    batches = {"image": jnp.asarray(image), "label": digits.train.label[:96].reshape(3, 32)}
    scanned, sums = jax.jit(lambda s, b: lax.scan(step, s, b))(state, batches)
    for i in range(3):
        state, alone = jax.jit(step)(state, jax.tree.map(lambda x, i=i: x[i], batches))
        assert_close(jax.tree.map(lambda x, i=i: x[i], sums), alone, 1e-4)
    assert_close(without_key(scanned), without_key(state), 1e-5)


@pytest.mark.slow
def test_gradients_flow_through_the_loss_and_forward_mode_through_xla(batch):
    model = create_model("lab6", form="xla")
    state = create_train_state(model, TX, jax.random.key(0), SHAPE)
    evaluate = make_eval_step(model)

    def mean_loss(params):
        return evaluate(state._replace(params=params), batch)["loss"] / 32

    grads = jax.grad(mean_loss)(state.params)
    _, slope = jax.jvp(mean_loss, (state.params,), (grads,))
    assert float(slope) == pytest.approx(float(optax.tree.norm(grads)) ** 2, rel=1e-3)


def test_dropout_masks_follow_from_the_key_and_the_step_alone(batch):
    model = jaxconv.ConvNet(dropout_rate=0.5)
    frozen = optax.set_to_zero()
    state = create_train_state(model, frozen, jax.random.key(0), SHAPE)
    step = jax.jit(make_train_step(model, frozen))
    first, again = step(state, batch)[1], step(state, batch)[1]
    assert float(first["loss"]) == float(again["loss"])
    later = step(state._replace(step=state.step + 1), batch)[1]
    other = step(state._replace(rng=jax.random.key(1)), batch)[1]
    assert len({float(sums["loss"]) for sums in (first, later, other)}) == 3


def test_bfloat16_trains(batch):
    model = create_model("lab6", dtype=jnp.bfloat16)
    state = create_train_state(model, TX, jax.random.key(0), SHAPE)
    step = jax.jit(make_train_step(model, TX))
    first = step(state, batch)[1]["loss"]
    for _ in range(10):
        state, sums = step(state, batch)
    assert state.params["conv1"]["kernel"].dtype == jnp.float32
    assert sums["loss"].dtype == jnp.float32
    assert float(sums["loss"]) < 0.5 * float(first)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_forms_agree_over_steps_in_float64(digits):
    tx = jaxconv.adam()
    states = []
    for form in ("patches", "xla"):
        model = create_model("lab6", form=form, dtype=jnp.float64, param_dtype=jnp.float64)
        state = create_train_state(model, tx, jax.random.key(0), SHAPE)
        step = jax.jit(make_train_step(model, tx))
        for i in range(5):
            part = slice(8 * i, 8 * i + 8)
            state, _ = step(
                state, {"image": digits.train.image[part], "label": digits.train.label[part]}
            )
        states.append(state.params)
    assert_close(*states, 1e-12)
