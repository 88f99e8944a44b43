import dataclasses
import doctest
import json

import jax
import numpy as np
import pytest

import jaxconv
from experiments.records import accuracy, mistakes
from experiments.records.record import kept
from tests.support import ROOT

SMALL = accuracy.Settings(
    filters=(2, 3), kernels=(5, 3), pools=(0,), epochs=1, batch_size=64, ema_momentum=0.5
)


@pytest.fixture
def small(monkeypatch, digits):
    monkeypatch.setattr(jaxconv, "load_dataset", lambda _: digits)
    monkeypatch.setattr(accuracy, "RECORD", SMALL)


def test_the_examples_are_right():
    assert doctest.testmod(mistakes, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.usefixtures("small")
def test_kept_seeds_are_claimed_go_on_and_are_trained_anew_to_the_bit(
    tmp_path, capsys, monkeypatch, digits
):
    path, nets = tmp_path / "record.json", tmp_path / "nets"
    accuracy.main(seeds=1, path=path, nets=nets)
    before = capsys.readouterr().out
    trained, train = [], accuracy.train
    monkeypatch.setattr(accuracy, "train", lambda *given: trained.append(given[1]) or train(*given))
    accuracy.main(seeds=2, path=path, nets=nets)
    assert trained == [1]
    after = capsys.readouterr().out
    assert after.splitlines()[0] == before.splitlines()[0]
    assert "(mean ± std of 2 seeds;" in after
    assert path.with_suffix(".png").stat().st_size > 1000

    facts, rows = kept(path)
    members = [jaxconv.load_run(nets / f"seed-{row.seed}.safetensors", SMALL.net) for row in rows]
    for row, member in zip(rows, members, strict=True):
        right = member.predict(digits.test.image).argmax(axis=-1) == digits.test.label
        assert right.mean() == pytest.approx(row.accuracy)
    together = sum(member.predict(digits.test.image) for member in members).argmax(axis=-1)
    wrong = np.flatnonzero(together != digits.test.label)
    assert [i for i, _, _ in facts["ensemble"]["mistakes"]] == wrong.tolist()
    assert f"Ensemble of 2: {1 - len(wrong) / len(together):.4f}" in after

    accuracy.main(seed=1, path=path)
    assert "those of the kept seed 1, to the bit." in capsys.readouterr().out
    accuracy.main(path=path)
    assert capsys.readouterr().out == after.partition("Seed 1")[2].partition("\n")[2]


@pytest.mark.usefixtures("small")
def test_trials_hold_the_last_training_digits_out(monkeypatch, capsys, digits):
    monkeypatch.setattr(accuracy, "TRIALS", {"alone": SMALL})
    monkeypatch.setattr(accuracy, "HELD_OUT", 60)
    seen, train = [], accuracy.train
    monkeypatch.setattr(accuracy, "train", lambda *given: seen.append(given[2:]) or train(*given))
    accuracy.main(trials=True)
    ((learned, held_out),) = seen
    np.testing.assert_array_equal(learned["label"], digits.train.label[:-60])
    np.testing.assert_array_equal(held_out["label"], digits.train.label[-60:])
    assert capsys.readouterr().out.splitlines()[-1].startswith("| alone | 3,124 | 0.")


def test_the_kept_seeds_are_of_the_record():
    facts, rows = kept(ROOT / "experiments" / "results" / "record-accuracy.json")
    own = json.loads(json.dumps(dataclasses.asdict(accuracy.RECORD)))
    assert {name: facts[name] for name in own} == own
    assert [row.seed for row in rows] == [*range(10)]
    assert facts["ensemble"]["seeds"] == 10
    shapes = jax.eval_shape(accuracy.compiled(accuracy.RECORD, 60_000)[1], jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(shapes.params)) <= 330_000
    labels = jaxconv.load_dataset("mnist").test.label
    assert all(labels[i] == label != guess for i, label, guess in facts["ensemble"]["mistakes"])
    # Whoever doubts a label saw another digit.
    assert all(labels[i] != seen for i, seen in mistakes.WRONG_LABELS.items())
