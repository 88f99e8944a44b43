"""A training that is interrupted anywhere and resumed ends in the bits of an undisturbed one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxconv
from experiments.benchmarks.recipes import NOTEBOOKS, net_of
from jaxconv.training.fit import fit
from jaxconv.training.replicas import fit_seeds
from tests.support.oracles import bits
from tests.support.run_folders import without_seconds

SHAPE = (28, 28, 1)
MODEL, TX = jaxconv.create_model("dense", hidden=(16,)), jaxconv.adam()
NET = jaxconv.classifier(MODEL, TX)
NETS = [  # the others are slow to compile
    net if net == "dense" else pytest.param(net, marks=pytest.mark.slow) for net in NOTEBOOKS
]


@functools.cache
def new_state(seed=0):
    return NET.init(jax.random.key(seed), SHAPE)


def recorded(run):
    """The result of a run, and a copy of every state and resume point that it saved."""
    saved = []
    result = run(save=lambda state, point: saved.append((jax.tree.map(jnp.copy, state), point)))
    return result, saved


@pytest.mark.parametrize("net", NETS)
def test_every_net_resumes_from_every_place_to_the_bit(net, digits):
    own, batch_size = net_of(net), NOTEBOOKS[net].batch_size
    run = functools.partial(
        fit,
        own,
        data=digits.train,
        epochs=2,
        batch_size=batch_size,
        validation=digits.test,
    )
    state = own.init(jax.random.key(3), SHAPE)
    (whole, history), saved = recorded(functools.partial(run, state))
    assert len(saved) == 2 * -(-300 // batch_size)
    for state, point in saved:
        final, rows = run(state, resume=point)
        assert bits(final) == bits(whole), point.step
        assert without_seconds(rows) == without_seconds(history), point.step


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.booleans(), st.data())
def test_neither_chunks_nor_resuming_change_a_bit(chunks, again, every, shuffle, data):
    samples = {name: x[:70] for name, x in jaxconv.load_dataset().train.batch().items()}
    run = functools.partial(fit, NET, data=samples, batch_size=16, epochs=3, shuffle=shuffle)
    whole, history = run(new_state())
    (same, _), saved = recorded(
        functools.partial(run, new_state(), chunks=chunks, save_every=every)
    )
    assert bits(same) == bits(whole)
    steps = [point.step for _, point in saved]
    assert {*range(every, 16, every), 5, 10, 15} <= {*steps}
    state, point = data.draw(st.sampled_from(saved))
    (final, rows), later = recorded(
        functools.partial(run, state, chunks=again, save_every=every, resume=point)
    )
    assert bits(final) == bits(whole)
    assert without_seconds(rows) == without_seconds(history)
    assert [point.step for _, point in later] == sorted({point.step for _, point in later})


def test_a_resumed_training_reports_the_whole_epoch(digits):
    """Progress, the callbacks' rows and the time continue where they were."""
    run = functools.partial(fit, NET, data=digits.train, epochs=2, batch_size=64)
    _, saved = recorded(functools.partial(run, new_state(), chunks=5))
    state, point = saved[2]
    seen, ended = [], []
    _, history = run(
        state,
        resume=point,
        chunks=5,
        on_chunk=lambda row: seen.append((row["epoch"], row["step"], row["seconds"])),
        callbacks=[lambda state, row: ended.append(row["epoch"])],
    )
    assert [place[:2] for place in seen] == [(1, 4), (1, 5), *((2, step) for step in range(1, 6))]
    assert seen[0][2] > point.seconds > 0
    assert ended == [1, 2]
    assert [row["epoch"] for row in history] == [1, 2]


def test_a_resumed_finished_training_takes_no_step(digits):
    run = functools.partial(fit, NET, data=digits.train, batch_size=64)
    (whole, history), saved = recorded(functools.partial(run, new_state(), epochs=2))
    final, rows = run(saved[-1][0], epochs=2, resume=saved[-1][1])
    assert (bits(final), rows) == (bits(whole), history)
    more, rows = run(saved[-1][0], epochs=3, resume=saved[-1][1])
    assert bits(more) == bits(run(new_state(), epochs=3)[0])
    assert [row["epoch"] for row in rows] == [1, 2, 3]


def test_a_resume_point_of_other_steps_is_refused(digits):
    run = functools.partial(fit, NET, data=digits.train, epochs=1)
    _, saved = recorded(functools.partial(run, new_state(), batch_size=64))
    with pytest.raises(ValueError, match="an epoch of 5 steps of 1 replicas, this one has 10 of 1"):
        run(saved[0][0], batch_size=32, resume=saved[0][1])
    with pytest.raises(ValueError, match="save_every must be a positive integer, not 0"):
        run(new_state(), batch_size=32, save_every=0)


def three_seeds(digits):
    """`fit_seeds` of two groups, without its epochs."""
    return functools.partial(
        fit_seeds,
        NET,
        lambda key: NET.init(key, SHAPE),
        [jax.random.key(seed) for seed in (3, 7, 11)],
        digits.train,
        batch_size=128,
        group=2,
        keep_states=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["map", "vmap"])
def test_groups_of_seeds_resume_from_every_place_to_the_bit(strategy, digits):
    held_out = {"validation": digits.test, "test": digits.test}
    run = functools.partial(three_seeds(digits), epochs=2, strategy=strategy, **held_out)
    ended = []
    (_, histories), saved = recorded(
        functools.partial(
            run, callbacks=[lambda i, state, rows: ended.append(jax.device_get(state))]
        )
    )
    steps = [point.step for _, point in saved]
    assert steps == [2, 4, 6, 8, 10, 12, 13, 14, 15, 16, 17, 18]
    for resume in saved:
        last = []
        keep_params = [lambda i, state, rows, last=last: last.append(jax.device_get(state.params))]
        (_, rows), later = recorded(functools.partial(run, resume=[resume], callbacks=keep_params))
        assert [point.step for _, point in later] == steps[steps.index(resume[1].step) + 1 :]
        resumed, undisturbed = (list(map(without_seconds, x)) for x in (rows, histories))
        assert resumed == undisturbed, resume[1].step
        if last:
            jax.tree.map(np.testing.assert_array_equal, last[-1], ended[-1].params)
    with pytest.raises(ValueError, match="pass keep_states=False"):
        run(resume=saved[:1], keep_states=True)
    with pytest.raises(ValueError, match=r"of replicas range\(0, 2\), which are not a group of 3"):
        run(resume=saved[:1], group=3)
    with pytest.raises(ValueError, match="save_every must be a positive integer, not -1"):
        run(save_every=-1)


def test_groups_of_seeds_train_on_from_their_ends(digits):
    run = three_seeds(digits)
    (_, histories), whole = recorded(functools.partial(run, epochs=2))
    _, saved = recorded(functools.partial(run, epochs=1))
    ends = [x for x in saved if not x[1].sums]
    assert [point.step for _, point in ends] == [6, 9]
    (_, rows), later = recorded(functools.partial(run, epochs=2, resume=ends))
    assert list(map(without_seconds, rows)) == list(map(without_seconds, histories))
    assert (bits(later[-1][0]), later[-1][1].step) == (bits(whole[-1][0]), whole[-1][1].step)
    (_, rows), later = recorded(
        functools.partial(run, epochs=2, resume=[(None, later[2][1]), ends[1]])
    )
    assert list(map(without_seconds, rows)) == list(map(without_seconds, histories))
    assert [point.step for _, point in later] == [16, 17, 18]


def test_a_training_that_a_callback_ended_stays_ended(digits):
    run = functools.partial(fit, NET, data=digits.train, batch_size=64, epochs=9)
    stop = [lambda state, row: row["epoch"] == 2]
    (whole, history), saved = recorded(functools.partial(run, new_state(), callbacks=stop))
    assert [point.stopped for _, point in saved] == [False] * 9 + [True]
    final, rows = run(saved[-1][0], resume=saved[-1][1])
    assert (bits(final), rows) == (bits(whole), history)
    final, rows = run(saved[7][0], resume=saved[7][1], callbacks=stop)
    assert (bits(final), without_seconds(rows)) == (bits(whole), without_seconds(history))
