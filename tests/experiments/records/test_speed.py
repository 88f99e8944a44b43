import dataclasses
import doctest
import json

import jax
import numpy as np
import pytest

import jaxconv
from experiments.records import speed
from tests.support import ROOT

SMALL = speed.Settings(
    crop=2,
    filters=(4, 6),
    first="blocks",
    units=8,
    label_smoothing=0.1,
    batch_size=64,
    learning_rate=0.01,
    samples=256,
)


@pytest.fixture
def small(monkeypatch, digits):
    monkeypatch.setattr(jaxconv, "load_dataset", lambda _: digits)
    monkeypatch.setattr(speed, "RECORD", SMALL)
    monkeypatch.setattr(speed, "LADDER", {"alone": SMALL})


def test_the_examples_are_right():
    assert doctest.testmod(speed).failed == 0


@pytest.mark.usefixtures("small")
def test_kept_seeds_are_claimed_and_trained_anew_to_the_bit(tmp_path, capsys):
    path = tmp_path / "record.json"
    speed.main(seeds=2, path=path)
    claimed = capsys.readouterr().out
    assert "(mean ± std of 2 seeds;" in claimed
    speed.main(path=path)
    assert capsys.readouterr().out == claimed
    speed.main(seed=1, path=path)
    first, second = capsys.readouterr().out.splitlines()
    kept = json.loads(path.read_text())["seeds"]
    assert first == f"Test accuracy {kept[1]['accuracy']:.4f}"
    assert second == "The parameters are those of the kept seed 1, to the bit."
    assert kept[0]["digest"] != kept[1]["digest"]


@pytest.mark.usefixtures("small")
def test_the_ladder_is_measured(capsys):
    speed.main(ladder=2)
    *_, row = capsys.readouterr().out.splitlines()
    assert row.startswith("| alone | 1,236 | ")


@pytest.mark.parametrize("rung", speed.LADDER)
def test_every_rung_is_a_net_and_the_last_one_the_record(rung):
    settings = speed.LADDER[rung]
    net, init = speed.compiled(settings)
    state = jax.eval_shape(init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((2, 28, 28, 1), np.uint8)
    assert jax.eval_shape(net.predict, state, image).shape == (2, 10)
    assert [*speed.LADDER.values()][-1] == speed.RECORD


def test_the_kept_seeds_are_of_the_record_and_above_the_mark():
    facts, rows = speed.kept(ROOT / "experiments" / "results" / "record-speed.json")
    own = json.loads(json.dumps(dataclasses.asdict(speed.RECORD)))
    assert {name: facts[name] for name in own} == own
    assert [row.seed for row in rows] == [*range(100)]
    assert np.mean([row.accuracy for row in rows]) >= 0.99


def test_the_rate_goes_up_and_down_once(monkeypatch):
    rates = []
    monkeypatch.setattr(speed.optax, "adam", lambda rate, **_: rates.append(rate))
    monkeypatch.setattr(speed.jaxconv, "classifier", lambda *_, **__: None)
    speed.compiled(dataclasses.replace(SMALL, samples=6400))
    found = [float(rates[0](step)) for step in range(101)]
    expected = np.interp(np.arange(101), [0, 20, 100], [0.0004, 0.01, 0])
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_no_seed_and_no_number_of_seeds_is_refused():
    with pytest.raises(ValueError, match="seeds must be a positive integer, not 0"):
        speed.main(seeds=0)
    with pytest.raises(ValueError, match="seed must be a positive integer or 0, not -1"):
        speed.main(seed=-1)
