import functools
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxconv
from jaxconv import create_model
from jaxconv.measure.timing import CompileWatch
from jaxconv.training.evaluate import evaluate
from jaxconv.training.fit import fit
from tests.support.oracles import bits

MODEL = create_model("dense", hidden=(16,))
TX = jaxconv.adam()
NET = jaxconv.classifier(MODEL, TX)


@pytest.fixture
def state():
    return NET.init(jax.random.key(0), (28, 28, 1))


def test_fit_compiles_once_for_all_chunks_and_epochs(state, digits):
    net = jaxconv.classifier(MODEL, TX)
    options = {"batch_size": 32, "validation": digits.test}
    fit(net, state, digits.train, epochs=1, chunks=4, **options)
    with CompileWatch() as watch:
        fit(net, state, digits.train, epochs=3, chunks=3, **options)
        fit(net, state, digits.train, epochs=1, chunks=1000, **options)
    assert watch.compilations == 0
    with CompileWatch() as watch:
        fit(net, state, digits.train, epochs=1, **(options | {"batch_size": 31}))
    assert watch.compilations > 0


def test_the_callers_state_stays_usable(state, digits):
    before = bits(state)
    fit(NET, state, digits.train, epochs=2, batch_size=64)
    assert bits(state) == before


def test_copies_that_a_callback_makes_stay(state, digits):
    kept = []
    fit(
        NET,
        state,
        digits.train,
        epochs=3,
        batch_size=64,
        callbacks=[lambda state, row: kept.append((bits(state), jax.device_get(state)))],
    )
    assert [bits(copy) for _, copy in kept] == [digest for digest, _ in kept]
    assert len({digest for digest, _ in kept}) == 3


def test_the_history_is_that_of_single_steps(state, digits):
    """Sample-weighted running means, validation after each epoch, no shuffle: by hand."""
    rows_seen, chunks_seen = [], []
    data = digits.split_validation(0.1)
    final, history = fit(
        NET,
        state,
        data.train,
        epochs=2,
        batch_size=64,
        validation=data.validation,
        shuffle=False,
        chunks=2,
        callbacks=[lambda state, row: rows_seen.append(dict(row))],
        on_chunk=lambda row: chunks_seen.append((row["epoch"], row["step"], row["steps"])),
    )
    assert rows_seen == history
    assert chunks_seen == [(1, 3, 5), (1, 5, 5), (2, 3, 5), (2, 5, 5)]
    step = jax.jit(NET.train_step)
    for row in history:
        loss = correct = 0.0
        for start in range(0, 270, 64):
            part = slice(start, start + 64)
            batch = {name: x[:270][part] for name, x in digits.train.batch().items()}
            state, sums = step(state, batch)
            loss, correct = loss + float(sums["loss"]), correct + int(sums["accuracy"])
        assert row["loss"] == pytest.approx(loss / 270, rel=1e-5)
        assert row["accuracy"] == correct / 270
        held_out = evaluate(NET, state, data.validation)
        assert row["val_loss"] == pytest.approx(held_out["loss"], rel=1e-4)
        assert row["seconds"] > 0
    assert int(final.step) == 10
    assert [row["epoch"] for row in history] == [1, 2]


def test_a_second_fit_continues_where_the_first_ended(state, digits):
    run = functools.partial(fit, NET, data=digits.train, batch_size=64)
    whole, history = run(state, epochs=3)
    half, first = run(state, epochs=1)
    rest, second = run(half, epochs=2)
    assert bits(rest) == bits(whole)
    assert [row["epoch"] for row in first + second] == [1, 2, 3]
    assert [row["loss"] for row in first + second] == [row["loss"] for row in history]


def test_a_callback_ends_the_training_by_returning_true(state, digits):
    options = {"epochs": 10, "batch_size": 64}
    stop = [lambda state, row: row["epoch"] == 2, lambda state, row: None]
    assert len(fit(NET, state, digits.train, callbacks=stop, **options)[1]) == 2


def test_the_shuffle_is_new_every_epoch_and_can_be_off(state, digits):
    labels = []

    def spy(state, batch):
        jax.debug.callback(lambda x: labels.append(np.asarray(x)), batch["label"], ordered=True)
        return NET.train_step(state, batch)

    data = {**digits.train.batch(), "label": np.arange(300, dtype=np.int32) % 10}
    for shuffle in (True, False):
        net = NET._replace(train_step=spy)
        fit(net, state, data, epochs=2, batch_size=300, shuffle=shuffle)
    jax.effects_barrier()
    first, second, straight, again = labels
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.bincount(first), np.bincount(straight))
    np.testing.assert_array_equal(straight, again)
    np.testing.assert_array_equal(straight, data["label"])


def test_the_net_memorises_a_batch(digits):
    net = jaxconv.classifier(create_model("lab6"), jaxconv.adam())
    state = net.init(jax.random.key(0), (28, 28, 1))
    data = digits.train[:32]
    _, history = fit(net, state, data, epochs=40, batch_size=32)
    assert history[-1]["accuracy"] == 1.0
    assert history[-1]["loss"] < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be a positive integer, not 0"),
        ({"batch_size": -1}, "batch_size must be a positive integer, not -1"),
        ({"chunks": 2.5}, "chunks must be a positive integer, not 2.5"),
        ({"save_every": 0}, "save_every must be a positive integer, not 0"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_numbers_are_refused(state, digits, change, message):
    options = {"epochs": 1, "batch_size": 8}
    with pytest.raises(ValueError, match=message):
        fit(NET, state, digits.train, **(options | change))


def test_a_chunk_of_only_masked_samples_shows_no_progress_and_harms_nothing(state, digits):
    masked = {**digits.train.batch(), "mask": np.arange(300) >= 100}
    seen = []
    _, history = fit(
        NET,
        state,
        masked,
        epochs=1,
        batch_size=50,
        shuffle=False,
        on_chunk=lambda row: seen.append(row["step"]),
    )
    assert seen == [3, 4, 5, 6]
    assert np.isfinite(history[0]["loss"])


FINGERPRINT = """
import hashlib, sys
import jax, numpy as np
import jaxconv
net = jaxconv.classifier(jaxconv.create_model("dropout"), jaxconv.adam())
state = net.init(jax.random.key(int(sys.argv[1])), (28, 28, 1))
data = jaxconv.load_dataset("mnist").train[:300]
state, history = jaxconv.fit(net, state, data, epochs=2, batch_size=128)
leaves = jax.tree.leaves((state.params, state.opt_state))
print(hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in leaves)).hexdigest())
"""


def test_the_same_key_gives_the_same_bits_in_another_process(monkeypatch, capsys):
    command = [sys.executable, "-c", FINGERPRINT, "7"]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    here = {}
    for seed in ("7", "8"):
        monkeypatch.setattr(sys, "argv", ["-c", seed])
        exec(FINGERPRINT, {})
        here[seed] = capsys.readouterr().out
    assert len(there.strip()) == 64
    assert here["7"] == there != here["8"]
