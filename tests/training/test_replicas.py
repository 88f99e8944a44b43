import functools
import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from experiments.benchmarks.recipes import NOTEBOOKS, net_of
from jaxconv import evaluate, fit
from jaxconv.training.evaluate import evaluate_replicas
from jaxconv.training.replicas import evaluate_seeds, fit_seeds
from tests.support.oracles import bits
from tests.support.run_folders import without_seconds

SHAPE = (28, 28, 1)
evaluate_module = importlib.import_module("jaxconv.training.evaluate")
KEYS = [jax.random.key(seed) for seed in (3, 7, 11)]
BIG = ("strided", "lab6", "intro", "dropout")  # slow to compile
NETS = [pytest.param(net, marks=pytest.mark.slow) if net in BIG else net for net in NOTEBOOKS]

MODEL, TX = jaxconv.create_model("dense", hidden=(16,)), jaxconv.adam()
NET = jaxconv.classifier(MODEL, TX)
run_seeds = functools.partial(fit_seeds, NET, batch_size=64)
make_state = jax.jit(lambda key: NET.init(key, SHAPE))


def member(stack, i):
    return jax.tree.map(lambda x: x[i], stack)


def trained(net: str, dtype: str = "float32", samples: int = 700):
    """The parts of a net's training on its own batch size, dropout included."""
    own = net_of(net, dtype=dtype, param_dtype=dtype)
    data = jaxconv.load_dataset("mnist").train.batch()
    data = {name: x[:samples] for name, x in data.items()}
    init = jax.jit(lambda key: own.init(key, SHAPE))
    return init, own, data, NOTEBOOKS[net].batch_size


@pytest.mark.parametrize("net", NETS)
def test_mapped_replicas_are_those_of_runs_alone_to_the_bit(net):
    init, own, data, batch_size = trained(net)
    test = {name: x[:450] for name, x in jaxconv.load_dataset("mnist").test.batch().items()}
    shared = {"epochs": 2, "validation": test, "batch_size": batch_size}
    states, histories = fit_seeds(own, init, KEYS, data, strategy="map", **shared)
    for i, key in enumerate(KEYS):
        state, history = fit(own, init(key), data, **shared)
        assert bits(member(states, i)) == bits(state)
        assert without_seconds(histories[i]) == without_seconds(history)


@pytest.mark.parametrize("net", NETS)
def test_a_vmapped_step_from_equal_states_is_the_step_alone(net):
    init, own, data, batch_size = trained(net)
    states = [init(key) for key in KEYS]
    stack = jax.tree.map(lambda *x: jnp.stack(x), *states)
    batch = {name: x[:batch_size] for name, x in data.items()}
    step = jax.jit(own.train_step)
    vmapped, sums = jax.jit(jax.vmap(own.train_step, in_axes=(0, None)))(stack, batch)
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
    init, own, data, _ = trained(net, "float64", 20 * size)
    options = {"epochs": 1, "batch_size": size}
    keys = KEYS[:2]
    states, _ = fit_seeds(own, init, keys, data, strategy="vmap", **options)
    for i, key in enumerate(keys):
        alone, _ = fit(own, init(key), data, **options)
        assert int(alone.step) == 20
        for found, expected in zip(
            jax.tree.leaves(member(states.params, i)), jax.tree.leaves(alone.params), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_groups_change_no_bit(digits):
    keys = jax.random.split(jax.random.key(0), 5)
    options = {"data": digits.train, "epochs": 2, "validation": digits.test}
    options |= {"strategy": "map"}
    states, histories = run_seeds(make_state, keys, group=5, **options)
    again, other = run_seeds(make_state, keys, group=2, **options)
    assert bits(again) == bits(states)
    assert list(map(without_seconds, other)) == list(map(without_seconds, histories))


def test_callbacks_get_each_epoch_of_each_group(digits):
    rows_seen, chunks_seen = [], []
    _, histories = run_seeds(
        make_state,
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
            NET, states, digits.test, batch_size=32, strategy=strategy, group=group
        )
        for i, row in enumerate(rows):
            alone = evaluate(NET, member(states, i), digits.test, batch_size=32)
            assert row == (pytest.approx(alone, rel=1e-6) if strategy == "vmap" else alone)


@pytest.mark.parametrize("strategy", ["map", "vmap"])
def test_a_replica_that_diverges_harms_no_other(digits, strategy):
    def poisoned(key):
        state = make_state(key)
        bad = key is KEYS[1]
        params = jax.tree.map(lambda x: x * (math.nan if bad else 1), state.params)
        return state._replace(params=params)

    options = {"data": digits.train, "epochs": 2, "strategy": strategy, "validation": digits.test}
    states, histories = run_seeds(poisoned, KEYS, **options)
    healthy, expected = run_seeds(make_state, KEYS, **options)
    assert math.isnan(histories[1][-1]["loss"])
    for i in (0, 2):
        assert bits(member(states, i)) == bits(member(healthy, i))
        assert without_seconds(histories[i]) == without_seconds(expected[i])


def test_the_order_of_the_data_can_be_kept(digits):
    states, _ = run_seeds(make_state, KEYS, digits.train, epochs=1, shuffle=False)
    options = {"batch_size": 64}
    alone, _ = fit(NET, make_state(KEYS[1]), digits.train, epochs=1, shuffle=False, **options)
    assert bits(member(states, 1)) == bits(alone)


def test_replicas_continue_where_they_ended(digits):
    whole, _ = run_seeds(make_state, KEYS, digits.train, epochs=2, strategy="map")
    half, _ = run_seeds(make_state, KEYS, digits.train, epochs=1, strategy="map")
    rest, history = run_seeds(
        lambda i: member(half, i), range(3), digits.train, epochs=1, strategy="map"
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
        ({"batch_size": 0}, "batch_size must be a positive integer, not 0"),
        ({"keys": jax.random.key(0)}, "There is no key: pass one for each replica"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_arguments_are_refused(digits, change, message):
    options = {"keys": KEYS, "data": digits.train, "epochs": 1, **change}
    with pytest.raises(ValueError, match=message):
        run_seeds(make_state, **options)


def test_replicas_at_different_steps_are_refused(digits):
    def late(key):
        state = make_state(key)
        return state._replace(step=state.step + (key is KEYS[1]) * 5)

    with pytest.raises(ValueError, match=r"must be at the same step, not at \[0, 5\]"):
        run_seeds(late, KEYS, digits.train, epochs=1)


def test_the_test_follows_the_last_epoch_and_states_can_be_dropped(digits):
    options = {"test": digits.test, "epochs": 2}
    states, histories = run_seeds(make_state, KEYS, digits.train, **options)
    assert ["test_loss" in row for row in histories[0]] == [False, True]
    rows = evaluate_seeds(NET, states, digits.test)
    assert [history[-1]["test_loss"] for history in histories] == [row["loss"] for row in rows]
    gone, again = run_seeds(make_state, KEYS, digits.train, group=2, keep_states=False, **options)
    assert gone is None
    assert list(map(without_seconds, again)) == list(map(without_seconds, histories))


def test_a_group_is_evaluated_in_one_program(digits, monkeypatch):
    asked = []

    def spy(net, states, batch, **options):
        asked.append(len(states.step))
        return evaluate_replicas(net, states, batch, **options)

    monkeypatch.setattr(evaluate_module, "evaluate_replicas", spy)
    keys = jax.random.split(jax.random.key(0), 7)
    run_seeds(make_state, keys, digits.train, test=digits.test, epochs=1, group=7)
    assert asked == [7]


def test_one_replica_is_the_fit_of_its_key_in_both_strategies(digits):
    for strategy in ("map", "vmap"):
        more = {"epochs": 2, "validation": digits.test}
        states, (found,) = run_seeds(make_state, KEYS[:1], digits.train, strategy=strategy, **more)
        alone, history = fit(NET, make_state(KEYS[0]), digits.train, batch_size=64, **more)
        assert bits(member(states, 0)) == bits(alone)
        assert without_seconds(found) == without_seconds(history)


def test_a_callback_that_returns_true_ends_its_group(digits):
    stop = [lambda members, states, rows: members.start == 0 and rows[0]["epoch"] == 1]
    _, histories = run_seeds(make_state, KEYS, digits.train, epochs=3, group=2, callbacks=stop)
    assert [len(history) for history in histories] == [1, 1, 3]


def test_a_loss_that_is_not_finite_may_end_the_training(digits):
    def poisoned(key):
        state = make_state(key)
        return state._replace(params=jax.tree.map(lambda x: x * math.nan, state.params))

    with pytest.raises(FloatingPointError, match="The loss is nan at step 1 of epoch 1"):
        run_seeds(poisoned, KEYS, digits.train, epochs=1, check_finite=True)


def test_one_state_is_not_a_stack(digits):
    with pytest.raises(ValueError, match="not stacked: use evaluate for one state"):
        evaluate_seeds(NET, make_state(KEYS[0]), digits.test)
