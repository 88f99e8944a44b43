import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from experiments.benchmarks.recipes import NOTEBOOKS, from_recipe
from jaxconv import create_train_state, evaluate, fit, train_epoch
from jaxconv.training import replicas
from jaxconv.training.replicas import evaluate_seeds, fit_seeds
from tests.support.oracles import bits
from tests.support.run_folders import without_seconds

SHAPE = (28, 28, 1)
KEYS = [jax.random.key(seed) for seed in (3, 7, 11)]
BIG = ("strided", "lab6", "intro", "dropout")  # slow to compile
NETS = [pytest.param(net, marks=pytest.mark.slow) if net in BIG else net for net in NOTEBOOKS]

MODEL, TX = jaxconv.create_model("dense", hidden=(16,)), jaxconv.adam()
TRAIN_STEP, EVAL_STEP = jaxconv.make_train_step(MODEL, TX), jaxconv.make_eval_step(MODEL)
EPOCH = functools.partial(train_epoch, train_step=TRAIN_STEP, batch_size=64)
make_state = jax.jit(lambda key: create_train_state(MODEL, TX, key, SHAPE))


def member(stack, i):
    return jax.tree.map(lambda x: x[i], stack)


def trained(net: str, dtype: str = "float32", samples: int = 700):
    """The parts of a net's training on its own batch size, dropout included."""
    model, tx, loss = from_recipe(net, dtype=dtype, param_dtype=dtype)
    train_step = jaxconv.make_train_step(model, tx, loss=loss)
    data = jaxconv.load_dataset("mnist").train.batch()
    data = {name: x[:samples] for name, x in data.items()}
    init = jax.jit(lambda key: create_train_state(model, tx, key, SHAPE))
    return init, train_step, data, NOTEBOOKS[net].batch_size


@pytest.mark.parametrize("net", NETS)
def test_mapped_replicas_are_those_of_runs_alone_to_the_bit(net):
    init, train_step, data, batch_size = trained(net)
    eval_step = jaxconv.make_eval_step(from_recipe(net)[0])
    test = {name: x[:450] for name, x in jaxconv.load_dataset("mnist").test.batch().items()}
    options = {"train_step": train_step, "batch_size": batch_size}
    epoch = functools.partial(train_epoch, **options)
    shared = {"epochs": 2, "validation": test, "eval_step": eval_step}
    states, histories = fit_seeds(init, epoch, KEYS, data, strategy="map", **shared)
    for i, key in enumerate(KEYS):
        state, history = fit(init(key), data, **options, **shared)
        assert bits(member(states, i)) == bits(state)
        assert without_seconds(histories[i]) == without_seconds(history)


@pytest.mark.parametrize("net", NETS)
def test_a_vmapped_step_from_equal_states_is_the_step_alone(net):
    init, train_step, data, batch_size = trained(net)
    states = [init(key) for key in KEYS]
    stack = jax.tree.map(lambda *x: jnp.stack(x), *states)
    batch = {name: x[:batch_size] for name, x in data.items()}
    step = jax.jit(train_step)
    vmapped, sums = jax.jit(jax.vmap(train_step, in_axes=(0, None)))(stack, batch)
    for i, state in enumerate(states):
        alone, alone_sums = step(state, batch)
        for found, expected in zip(
            jax.tree.leaves(member(vmapped.params, i)), jax.tree.leaves(alone.params), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        assert float(sums["loss"][i]) == pytest.approx(float(alone_sums["loss"]), rel=1e-6)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.usefixtures("x64")
def test_twenty_vmapped_steps_in_float64_are_the_steps_alone(net):
    size = NOTEBOOKS[net].batch_size
    init, train_step, data, _ = trained(net, "float64", 20 * size)
    options = {"train_step": train_step, "batch_size": size}
    epoch = functools.partial(train_epoch, **options)
    keys = KEYS[:2]
    states, _ = fit_seeds(init, epoch, keys, data, epochs=1, strategy="vmap")
    for i, key in enumerate(keys):
        alone, _ = fit(init(key), data, epochs=1, **options)
        assert int(alone.step) == 20
        for found, expected in zip(
            jax.tree.leaves(member(states.params, i)), jax.tree.leaves(alone.params), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_groups_change_no_bit(digits):
    keys = jax.random.split(jax.random.key(0), 5)
    options = {"data": digits.train, "epochs": 2, "validation": digits.test}
    options |= {"eval_step": EVAL_STEP, "strategy": "map"}
    states, histories = fit_seeds(make_state, EPOCH, keys, group=5, **options)
    again, other = fit_seeds(make_state, EPOCH, keys, group=2, **options)
    assert bits(again) == bits(states)
    assert list(map(without_seconds, other)) == list(map(without_seconds, histories))


def test_callbacks_get_each_epoch_of_each_group(digits):
    rows_seen, chunks_seen = [], []
    _, histories = fit_seeds(
        make_state,
        EPOCH,
        KEYS,
        digits.train,
        epochs=2,
        group=2,
        chunks=2,
        callbacks=[lambda *group: rows_seen.append(group)],
        on_chunk=lambda row: chunks_seen.append(dict(row)),
    )
    epochs = [(list(members), [row["epoch"] for row in rows]) for members, _, rows in rows_seen]
    assert epochs == [([0, 1], [1, 1]), ([0, 1], [2, 2]), ([2], [1]), ([2], [2])]
    assert [state.step.shape for _, state, _ in rows_seen] == [(2,), (2,), (1,), (1,)]
    assert rows_seen[1][2] == [histories[0][1], histories[1][1]]
    assert [(row["epoch"], row["step"]) for row in chunks_seen] == [
        (1, 3),
        (1, 5),
        (2, 3),
        (2, 5),
    ] * 2
    ends = [row["loss"] for row in chunks_seen if row["step"] == 5]
    assert ends[0] == pytest.approx((histories[0][0]["loss"] + histories[1][0]["loss"]) / 2)
    taken = [row["seconds"] for row in chunks_seen if row["step"] == 5]
    assert [2 * row["seconds"] for row in histories[0]] == pytest.approx(taken[:2])
    assert [row["seconds"] for row in histories[2]] == taken[2:]


@pytest.mark.parametrize("strategy", ["map", "vmap"])
def test_each_state_is_evaluated_as_alone(digits, strategy):
    states = jax.vmap(make_state)(jnp.stack(KEYS))
    for group in (None, 2):
        rows = evaluate_seeds(
            states, digits.test, eval_step=EVAL_STEP, batch_size=32, strategy=strategy, group=group
        )
        for i, row in enumerate(rows):
            alone = evaluate(member(states, i), digits.test, eval_step=EVAL_STEP, batch_size=32)
            assert row == (pytest.approx(alone, rel=1e-6) if strategy == "vmap" else alone)


@pytest.mark.parametrize("strategy", ["map", "vmap"])
def test_a_replica_that_diverges_harms_no_other(digits, strategy):
    def poisoned(key):
        state = make_state(key)
        bad = key is KEYS[1]
        params = jax.tree.map(lambda x: x * (math.nan if bad else 1), state.params)
        return state._replace(params=params)

    options = {"data": digits.train, "epochs": 2, "strategy": strategy, "validation": digits.test}
    options["eval_step"] = EVAL_STEP
    states, histories = fit_seeds(poisoned, EPOCH, KEYS, **options)
    healthy, expected = fit_seeds(make_state, EPOCH, KEYS, **options)
    assert math.isnan(histories[1][-1]["loss"])
    for i in (0, 2):
        assert bits(member(states, i)) == bits(member(healthy, i))
        assert without_seconds(histories[i]) == without_seconds(expected[i])


def test_the_order_of_the_data_can_be_kept(digits):
    states, _ = fit_seeds(make_state, EPOCH, KEYS, digits.train, epochs=1, shuffle=False)
    options = {"train_step": TRAIN_STEP, "batch_size": 64}
    alone, _ = fit(make_state(KEYS[1]), digits.train, epochs=1, shuffle=False, **options)
    assert bits(member(states, 1)) == bits(alone)


def test_replicas_continue_where_they_ended(digits):
    whole, _ = fit_seeds(make_state, EPOCH, KEYS, digits.train, epochs=2, strategy="map")
    half, _ = fit_seeds(make_state, EPOCH, KEYS, digits.train, epochs=1, strategy="map")
    rest, history = fit_seeds(
        lambda i: member(half, i), EPOCH, range(3), digits.train, epochs=1, strategy="map"
    )
    assert bits(rest) == bits(whole)
    assert [row["epoch"] for row in history[0]] == [2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": []}, "There is no key"),
        ({"epochs": 0}, "epochs must be a positive integer, not 0"),
        ({"chunks": -1}, "chunks must be a positive integer, not -1"),
        ({"group": 0}, "group must be a positive integer, not 0"),
        ({"strategy": "pmap"}, "Unknown strategy 'pmap' .did you mean 'map'"),
        ({"validation": {}}, "validation needs an eval_step"),
        ({"test": {}}, "test needs an eval_step"),
        ({"keys": jax.random.key(0)}, "There is no key: pass one for each replica"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_arguments_are_refused(digits, change, message):
    options = {"keys": KEYS, "data": digits.train, "epochs": 1, **change}
    with pytest.raises(ValueError, match=message):
        fit_seeds(make_state, EPOCH, **options)


def test_replicas_at_different_steps_are_refused(digits):
    def late(key):
        state = make_state(key)
        return state._replace(step=state.step + (key is KEYS[1]) * 5)

    with pytest.raises(ValueError, match=r"must be at the same step, not at \[0, 5\]"):
        fit_seeds(late, EPOCH, KEYS, digits.train, epochs=1)


def test_the_test_follows_the_last_epoch_and_states_can_be_dropped(digits):
    options = {"test": digits.test, "eval_step": EVAL_STEP, "epochs": 2}
    states, histories = fit_seeds(make_state, EPOCH, KEYS, digits.train, **options)
    assert ["test_loss" in row for row in histories[0]] == [False, True]
    rows = evaluate_seeds(states, digits.test, eval_step=EVAL_STEP)
    assert [history[-1]["test_loss"] for history in histories] == [row["loss"] for row in rows]
    gone, again = fit_seeds(
        make_state, EPOCH, KEYS, digits.train, group=2, keep_states=False, **options
    )
    assert gone is None
    assert list(map(without_seconds, again)) == list(map(without_seconds, histories))


def test_a_group_is_evaluated_as_it_is_trained(digits, monkeypatch):
    asked = []

    def spy(states, data, **options):
        asked.append(options["group"])
        return evaluate_seeds(states, data, **options)

    monkeypatch.setattr(replicas, "evaluate_seeds", spy)
    keys, options = jax.random.split(jax.random.key(0), 7), {"test": digits.test}
    options |= {"eval_step": EVAL_STEP, "epochs": 1, "group": 7}
    fit_seeds(make_state, EPOCH, keys, digits.train, **options)
    assert asked == [7]


def test_one_state_is_not_a_stack(digits):
    with pytest.raises(ValueError, match="not stacked: use evaluate for one state"):
        evaluate_seeds(make_state(KEYS[0]), digits.test, eval_step=EVAL_STEP)
