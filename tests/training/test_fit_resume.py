"""Interrupted anywhere and resumed, a training ends in the bits of an undisturbed one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxconv
from experiments.benchmarks.keras_nets import NOTEBOOKS
from experiments.benchmarks.recipes import our_net
from jaxconv import create_train_state, make_eval_step, make_train_step
from jaxconv.training.epoch import _stops
from jaxconv.training.fit import fit
from jaxconv.training.replicas import fit_seeds
from tests.support.oracles import bits

SHAPE = (28, 28, 1)
MODEL, TX = jaxconv.create_model("dense", hidden=(16,)), jaxconv.adam()
TRAIN_STEP, EVAL_STEP = make_train_step(MODEL, TX), make_eval_step(MODEL)
NETS = [  # the others are slow to compile
    net if net == "dense" else pytest.param(net, marks=pytest.mark.slow) for net in NOTEBOOKS
]


@functools.cache
def new(seed=0):
    return create_train_state(MODEL, TX, jax.random.key(seed), SHAPE)


def told(history):
    return [{k: x for k, x in row.items() if k != "seconds"} for row in history]


def recorded(run):
    """The result of a run, and a copy of all that its `save` was given."""
    kept = []
    result = run(
        save=lambda state, position: kept.append((jax.tree.map(jnp.copy, state), position))
    )
    return result, kept


@pytest.mark.parametrize("net", NETS)
def test_every_net_resumes_from_every_place_to_the_bit(net, digits):
    model, tx, loss = our_net(net)
    train_step, batch_size = make_train_step(model, tx, loss=loss), NOTEBOOKS[net].batch_size
    run = functools.partial(
        fit,
        data=digits.train,
        train_step=train_step,
        epochs=2,
        batch_size=batch_size,
        validation=digits.test,
        eval_step=make_eval_step(model, loss=loss),
    )
    state = create_train_state(model, tx, jax.random.key(3), SHAPE)
    (whole, history), kept = recorded(functools.partial(run, state))
    assert len(kept) == 2 * -(-300 // batch_size)
    for state, position in kept:
        final, rows = run(state, resume=position)
        assert bits(final) == bits(whole), position.step
        assert told(rows) == told(history), position.step


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.booleans(), st.data())
def test_no_chunk_and_no_place_changes_a_bit(chunks, again, every, shuffle, data):
    samples = {name: x[:70] for name, x in jaxconv.load_dataset().train.batch().items()}
    run = functools.partial(
        fit, data=samples, train_step=TRAIN_STEP, batch_size=16, epochs=3, shuffle=shuffle
    )
    whole, history = run(new())
    (same, _), kept = recorded(functools.partial(run, new(), chunks=chunks, save_every=every))
    assert bits(same) == bits(whole)
    steps = [position.step for _, position in kept]
    assert {*range(every, 16, every), 5, 10, 15} <= {*steps}
    state, position = data.draw(st.sampled_from(kept))
    (final, rows), later = recorded(
        functools.partial(run, state, chunks=again, save_every=every, resume=position)
    )
    assert bits(final) == bits(whole)
    assert told(rows) == told(history)
    assert [position.step for _, position in later] == sorted(
        {position.step for _, position in later}
    )


def test_a_resumed_training_tells_the_whole_epoch(digits):
    """Progress, the callbacks' rows and the time go on where they were."""
    run = functools.partial(fit, data=digits.train, train_step=TRAIN_STEP, epochs=2, batch_size=64)
    _, kept = recorded(functools.partial(run, new(), chunks=5))
    state, position = kept[2]
    seen, ended = [], []
    _, history = run(
        state,
        resume=position,
        chunks=5,
        on_chunk=lambda row: seen.append((row["epoch"], row["step"], row["seconds"])),
        callbacks=[lambda state, row: ended.append(row["epoch"])],
    )
    assert [place[:2] for place in seen] == [(1, 4), (1, 5), *((2, step) for step in range(1, 6))]
    assert seen[0][2] > position.seconds > 0
    assert ended == [1, 2]
    assert [row["epoch"] for row in history] == [1, 2]


def test_a_finished_training_has_nothing_left_to_do(digits):
    run = functools.partial(fit, data=digits.train, train_step=TRAIN_STEP, batch_size=64)
    (whole, history), kept = recorded(functools.partial(run, new(), epochs=2))
    final, rows = run(kept[-1][0], epochs=2, resume=kept[-1][1])
    assert (bits(final), rows) == (bits(whole), history)
    more, rows = run(kept[-1][0], epochs=3, resume=kept[-1][1])
    assert bits(more) == bits(run(new(), epochs=3)[0])
    assert [row["epoch"] for row in rows] == [1, 2, 3]


def test_a_position_of_other_steps_is_refused(digits):
    run = functools.partial(fit, data=digits.train, train_step=TRAIN_STEP, epochs=1)
    _, kept = recorded(functools.partial(run, new(), batch_size=64))
    with pytest.raises(ValueError, match=r"an epoch of \(5,\) steps, this one has \(10,\)"):
        run(kept[0][0], batch_size=32, resume=kept[0][1])
    with pytest.raises(ValueError, match="save_every must be a positive integer, not 0"):
        run(new(), batch_size=32, save_every=0)


def test_chunks_end_where_a_save_is_due():
    assert _stops(0, 0, 10, 10, None) == [10]
    assert _stops(0, 0, 10, 4, 5) == [4, 5, 8, 10]
    assert _stops(10, 0, 10, 10, 7) == [4, 10]
    assert _stops(14, 0, 10, 10, 7) == [7, 10]
    assert _stops(0, 9, 10, 4, 3) == [10]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["map", "vmap"])
def test_groups_of_seeds_resume_from_every_place_to_the_bit(strategy, digits):
    epoch = functools.partial(jaxconv.train_epoch, train_step=TRAIN_STEP, batch_size=128)
    run = functools.partial(
        fit_seeds,
        lambda key: create_train_state(MODEL, TX, key, SHAPE),
        epoch,
        [jax.random.key(seed) for seed in (3, 7, 11)],
        digits.train,
        epochs=2,
        validation=digits.test,
        test=digits.test,
        eval_step=EVAL_STEP,
        strategy=strategy,
        group=2,
        keep_states=False,
    )
    ended = []
    (_, histories), kept = recorded(
        functools.partial(
            run, callbacks=[lambda i, state, rows: ended.append(jax.device_get(state))]
        )
    )
    steps = [position.step for _, position in kept]
    assert steps == [2, 4, 6, 8, 10, 12, 13, 14, 15, 16, 17, 18]
    for resume in kept:
        last = []
        keep = [lambda i, state, rows, last=last: last.append(jax.device_get(state.params))]
        (_, rows), later = recorded(functools.partial(run, resume=resume, callbacks=keep))
        assert [position.step for _, position in later] == steps[steps.index(resume[1].step) + 1 :]
        assert [told(row) for row in rows] == [told(row) for row in histories], resume[1].step
        if last:
            jax.tree.map(np.testing.assert_array_equal, last[-1], ended[-1].params)
    with pytest.raises(ValueError, match="pass keep_states=False"):
        run(resume=kept[0], keep_states=True)
    with pytest.raises(ValueError, match=r"of replicas range\(0, 2\), which are no group of 3"):
        run(resume=kept[0], group=3)
    with pytest.raises(ValueError, match="save_every must be a positive integer, not -1"):
        run(save_every=-1)


def poisoned(digits, step: int, value: float):
    """The digits without order, whose batch at a step holds a pixel of that value."""
    image = digits.train.image.astype(np.float32) / 255
    image[64 * (step - 1) + 7, 14, 14] = value
    return {"image": image, "label": digits.train.label}


@pytest.mark.parametrize("chunks", [1, 2, 20])
@pytest.mark.parametrize(("value", "shown"), [(float("nan"), "nan"), (float("inf"), "nan|inf")])
def test_a_loss_that_is_not_finite_ends_the_training_with_its_step(chunks, value, shown, digits):
    run = {"train_step": TRAIN_STEP, "epochs": 2, "batch_size": 64, "shuffle": False}
    kept = []
    with pytest.raises(
        FloatingPointError, match=rf"The loss is ({shown}) at step 3 of epoch 1.*rate"
    ):
        fit(
            new(),
            poisoned(digits, 3, value),
            chunks=chunks,
            save=lambda state, position: kept.append(position.step),
            **run,
        )
    assert kept == {1: [], 2: [], 20: [1, 2]}[chunks]
    _, history = fit(new(), poisoned(digits, 3, value), check_finite=False, **run)
    assert not np.isfinite(history[0]["loss"])


def test_parameters_that_are_not_finite_are_never_saved(digits):
    """The last step's loss is that of before its update: only the parameters tell."""
    tx = optax.chain(
        optax.sgd(0.1), optax.stateless(lambda updates, _: jax.tree.map(lambda x: x / 0, updates))
    )
    state = create_train_state(MODEL, tx, jax.random.key(0), SHAPE)
    kept = []
    with pytest.raises(
        FloatingPointError, match="A parameter is no longer finite after step 1, in"
    ):
        fit(
            state,
            digits.train,
            train_step=make_train_step(MODEL, tx),
            epochs=1,
            batch_size=300,
            save=lambda *saved: kept.append(saved),
        )
    assert not kept


def test_an_optimizer_that_skips_bad_steps_trains_on(digits):
    tx = optax.apply_if_finite(jaxconv.adam(), 3)
    state = create_train_state(MODEL, tx, jax.random.key(0), SHAPE)
    run = {"train_step": make_train_step(MODEL, tx), "epochs": 1, "batch_size": 64}
    data = poisoned(digits, 2, float("nan"))
    state, _ = fit(state, data, shuffle=False, check_finite=False, **run)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get(state.params)))


def test_a_training_that_a_callback_ended_stays_ended(digits):
    run = functools.partial(fit, data=digits.train, train_step=TRAIN_STEP, batch_size=64, epochs=9)
    stop = [lambda state, row: row["epoch"] == 2]
    (whole, history), kept = recorded(functools.partial(run, new(), callbacks=stop))
    assert [position.stopped for _, position in kept] == [False] * 9 + [True]
    final, rows = run(kept[-1][0], resume=kept[-1][1])
    assert (bits(final), rows) == (bits(whole), history)
    final, rows = run(kept[7][0], resume=kept[7][1], callbacks=stop)
    assert (bits(final), told(rows)) == (bits(whole), told(history))
