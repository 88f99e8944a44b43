import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv import (
    create_model,
    create_train_state,
    make_eval_step,
    make_train_step,
    train_epoch,
)
from jaxconv.training._stacked import stack_states
from jaxconv.training.sources import open_epochs
from tests.support.oracles import bits

MODEL = create_model("dense", hidden=(16,))
TX = jaxconv.adam()
TRAIN_STEP, EVAL_STEP = make_train_step(MODEL, TX), make_eval_step(MODEL)


@pytest.fixture
def state():
    return create_train_state(MODEL, TX, jax.random.key(0), (28, 28, 1))


RUN = jax.jit(train_epoch, static_argnames=("train_step", "batch_size"))


def run_in_chunks(state, data, cuts, **options):
    options = {"train_step": TRAIN_STEP, "batch_size": 32, **options}
    order = jaxconv.epoch_permutation(state.rng, 0, len(data["label"]))
    parts = []
    for start, stop in itertools.pairwise(cuts):
        state, sums = RUN(state, data, order, start, stop, **options)
        parts.append(sums)
    return state, jax.tree.map(lambda *xs: sum(xs), *parts)


def test_an_epoch_is_a_loop_of_steps_over_the_permutation(state, digits):
    data = digits.train.batch()
    order = np.asarray(jaxconv.epoch_permutation(state.rng, 0, 300))
    whole, epoch_sums = run_in_chunks(state, data, [0, 10])
    assert epoch_sums["count"].tolist() == [32] * 9 + [12]
    step = jax.jit(TRAIN_STEP)
    for i in range(10):
        part = order[32 * i : 32 * i + 32]
        state, sums = step(state, {name: x[part] for name, x in data.items()})
        for name, xs in epoch_sums.items():
            np.testing.assert_allclose(xs[i], sums[name], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole.params, state.params
    )
    assert int(whole.step) == 10


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("strided", "intro")]


@pytest.mark.parametrize("name", ["lab6", "dropout", "dense", *SLOW])
def test_no_chunking_changes_a_bit(name, digits):
    model = create_model(name)
    step = make_train_step(model, TX)
    start = create_train_state(model, TX, jax.random.key(1), (28, 28, 1))
    data = digits.train[:200].batch()  # 6 steps of 32, one of 8
    whole = run_in_chunks(start, data, [0, 7], train_step=step)
    for cuts in ([0, 1, 2, 3, 4, 5, 6, 7], [0, 2, 4, 6, 7], [0, 3, 7], [0, 6, 7], [0, 0, 5, 7, 7]):
        state, sums = run_in_chunks(start, data, cuts, train_step=step)
        assert bits(state) == bits(whole[0])
        jax.tree.map(np.testing.assert_array_equal, sums, whole[1])


def test_a_batch_larger_than_the_data_is_one_step(state, digits):
    after, sums = run_in_chunks(state, digits.train.batch(), [0, 1], batch_size=1000)
    assert sums["count"].tolist() == [300]
    assert int(after.step) == 1


@pytest.mark.slow
def test_vmap_over_replicas_is_each_replica_alone(digits):
    data = digits.train[:100].batch()
    keys = jax.random.split(jax.random.key(5), 3)

    def train(key):
        state = create_train_state(MODEL, TX, key, (28, 28, 1))
        order = jaxconv.epoch_permutation(key, 0, 100)
        return train_epoch(state, data, order, 0, 4, train_step=TRAIN_STEP, batch_size=32)

    together, sums = jax.jit(jax.vmap(train))(keys)
    assert sums["count"].tolist() == [[32, 32, 32, 4]] * 3
    for i, key in enumerate(keys):
        alone, alone_sums = jax.jit(train)(key)
        np.testing.assert_allclose(sums["loss"][i], alone_sums["loss"], rtol=1e-5)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-5),
            together.params,
            alone.params,
        )


def test_a_batch_size_that_is_not_positive_is_refused(state, digits):
    with pytest.raises(ValueError, match="batch_size must be a positive integer, not 0"):
        train_epoch(
            state, digits.test.batch(), jnp.arange(70), 0, 1, train_step=TRAIN_STEP, batch_size=0
        )


def test_the_program_donates_the_state(state, digits):
    options = {"train_step": TRAIN_STEP, "batch_size": 64, "strategy": "map"}
    states = stack_states([state])
    with open_epochs(digits.train, **options) as epochs:
        epochs.take_steps(states, jnp.arange(300)[None], 0, 1)
    assert epochs.samples == 300
    assert all(x.is_deleted() for x in jax.tree.leaves(states.params))
