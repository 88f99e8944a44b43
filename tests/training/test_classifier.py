"""A classifier composes: its functions are pure, and any JAX transform takes them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import PartitionSpec

import jaxconv
from jaxconv import parallel
from tests.support.oracles import bits

SHAPE = (28, 28, 1)
MODEL, TX = jaxconv.create_model("dense", hidden=(16,)), jaxconv.adam()
NET = jaxconv.classifier(MODEL, TX)


@pytest.fixture
def batch(digits):
    return {name: jnp.asarray(x[:32]) for name, x in digits.train.batch().items()}


def test_its_functions_are_those_of_its_parts(batch):
    state = NET.init(jax.random.key(3), SHAPE)
    assert bits(state) == bits(jaxconv.create_train_state(MODEL, TX, jax.random.key(3), SHAPE))
    step, eval_step = jaxconv.make_train_step(MODEL, TX), jaxconv.make_eval_step(MODEL)
    assert bits(NET.train_step(state, batch)[0]) == bits(step(state, batch)[0])
    assert NET.eval_step(state, batch) == eval_step(state, batch)
    logits = MODEL.apply({"params": state.params}, batch["image"] / 255.0)
    found = NET.predict(state, batch["image"])
    np.testing.assert_allclose(found, jax.nn.softmax(logits), atol=1e-6)


def test_both_steps_have_the_same_loss_and_metrics(batch):
    def ones(logits, labels):
        return jnp.ones(len(labels))

    net = jaxconv.classifier(MODEL, TX, loss=lambda *_: jnp.full(32, 2.0), metrics={"ones": ones})
    state = net.init(jax.random.key(0), SHAPE)
    expected = {"loss": 64.0, "ones": 32.0, "count": 32}
    assert net.eval_step(state, batch) == net.train_step(state, batch)[1] == expected
    with pytest.raises(ValueError, match="report loss themselves: rename the metric"):
        jaxconv.classifier(MODEL, TX, metrics={"loss": ones})


def test_vmap_over_keys_and_scan_over_batches(batch):
    keys = jax.random.split(jax.random.key(0), 3)
    states = jax.vmap(lambda key: NET.init(key, SHAPE))(keys)
    batches = {name: x.reshape(4, 8, *x.shape[1:]) for name, x in batch.items()}
    states, sums = jax.jit(jax.vmap(lambda s: lax.scan(NET.train_step, s, batches)))(states)
    assert (states.step.tolist(), sums["count"].shape) == ([4, 4, 4], (3, 4))


def test_grad_goes_through_a_step_and_through_the_evaluation(batch):
    net = jaxconv.classifier(MODEL, optax.sgd(0.1))
    state = net.init(jax.random.key(0), SHAPE)

    def loss_after_a_step(params):
        after, _ = net.train_step(state._replace(params=params), batch)
        return net.eval_step(after, batch)["loss"]

    grads = jax.grad(loss_after_a_step)(state.params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))
    assert float(optax.tree.norm(grads)) > 0


def test_devices_may_divide_its_batches(batch):
    mesh = parallel.data_mesh(1)
    net = NET._replace(train_step=parallel.data_parallel(NET.train_step, mesh))
    state, _ = jaxconv.fit(net, net.init(jax.random.key(0), SHAPE), batch, epochs=1, batch_size=8)
    assert int(state.step) == 4
    shard = jax.shard_map(
        lambda state, batch: lax.psum(NET.eval_step(state, batch)["loss"], "batch"),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("batch")),
        out_specs=PartitionSpec(),
    )
    expected = NET.eval_step(state, batch)["loss"]
    assert float(shard(state, batch)) == pytest.approx(float(expected), rel=1e-6)


def test_strict_promotion_passes(digits):
    with jax.numpy_dtype_promotion("strict"):
        net = jaxconv.classifier(MODEL, TX)
        state = net.init(jax.random.key(0), SHAPE)
        state, _ = jaxconv.fit(net, state, digits.train, epochs=1, batch_size=64)
        strict = jaxconv.evaluate(net, state, digits.test)
        jaxconv.predict(net, state, digits.test.image[:3])
    assert jaxconv.evaluate(net, state, digits.test) == strict


@pytest.mark.usefixtures("x64")
def test_64_bits_pass(digits):
    model = jaxconv.create_model("dense", hidden=(16,), dtype="float64", param_dtype="float64")
    net = jaxconv.classifier(model, TX)
    state = net.init(jax.random.key(0), SHAPE)
    state, _ = jaxconv.fit(net, state, digits.train, epochs=1, batch_size=64)
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {np.dtype("float64")}
    assert jaxconv.predict(net, state, digits.test.image[:3]).dtype == np.float64
