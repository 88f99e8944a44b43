"""Schedules, weight decay, clipping, averages, smoothing and a target, as a run has them."""

import json
import signal

import jax
import numpy as np
import optax
import pytest

import jaxconv
from experiments import dense
from jaxconv.data import compose, erase, warp
from jaxconv.runs import cli
from jaxconv.training import average_weights, averaged
from tests.support.oracles import bits
from tests.support.run_folders import run

pytestmark = pytest.mark.usefixtures("few_digits", "no_pictures")

ALL = {
    "schedule": "onecycle",
    "weight_decay": 0.01,
    "global_clipnorm": 1.0,
    "ema_momentum": 0.7,
    "label_smoothing": 0.1,
}
IMAGES = {"rotation": 15.0, "zoom": 0.1, "shift": 1.0, "elastic": 0.5, "erase": 4}


def test_a_run_trains_as_the_same_parts_in_ones_own_code(digits, tmp_path):
    """300 digits in steps of 64 are 5 steps an epoch, and 10 in all."""
    result = run("dense", tmp_path / "a", epochs=2, batch_size=64, **ALL, **IMAGES)
    rate = optax.cosine_onecycle_schedule(10, dense.CONFIG.training.learning_rate)
    clipped = optax.chain(optax.clip_by_global_norm(1.0), dense.RECIPE.tx(rate))
    tx = average_weights(jaxconv.regularize(clipped, rate, weight_decay=0.01), 0.7)
    net = jaxconv.classifier(
        jaxconv.create_model("dense"),
        tx,
        loss=jaxconv.smoothed_crossentropy(0.1),
        augment=compose(warp(rotation=15.0, zoom=0.1, shift=1.0, elastic=0.5), erase(4)),
    )
    state = net.init(jax.random.key(0), (28, 28, 1))
    state, _ = jaxconv.fit(net, state, digits.train, epochs=2, batch_size=64)
    for kind, own in (("test", averaged(state)), ("raw_test", state)):
        means = jaxconv.evaluate(net, own, digits.test)
        assert result[f"{kind}_loss"] == pytest.approx(means["loss"], rel=1e-5)
    kept = jaxconv.load_run(tmp_path / "a").state.params["logits"]["kernel"]
    np.testing.assert_allclose(kept, averaged(state).params["logits"]["kernel"], atol=1e-6)
    assert {name: json.loads((tmp_path / "a" / "config.json").read_text())["training"][name]
            for name in ALL} == ALL  # fmt: skip


@pytest.mark.parametrize("settings", [{}, {"seeds": "3,7"}])
def test_a_resumed_run_ends_in_the_same_bits(settings, interrupted, tmp_path):
    settings = {**ALL, **IMAGES, **settings}
    run("dense", tmp_path / "a", epochs=2, **settings)
    interrupted(3, signal.SIGINT, "dense", tmp_path / "b", epochs=2, **settings)
    result = run("dense", tmp_path / "b", epochs=2, resume=True, **settings)
    assert result["resumed_at_step"] > 0
    whole, resumed = (jaxconv.load_run(tmp_path / x) for x in "ab")
    assert list(map(bits, whole.states)) == list(map(bits, resumed.states))


def test_a_seed_of_a_group_is_trained_as_alone(tmp_path):
    run("dense", tmp_path / "a", epochs=1, seeds="3,7", **ALL, **IMAGES)
    run("dense", tmp_path / "b", epochs=1, seed=7, **ALL, **IMAGES)
    together, alone = (jaxconv.load_run(tmp_path / x) for x in "ab")
    assert bits(together.states[1]) == bits(alone.state)


def test_the_epochs_of_a_schedule_cannot_grow(tmp_path):
    run("dense", tmp_path / "a", epochs=1, schedule="cosine")
    with pytest.raises(ValueError, match=r"epochs: 1 then, 2 now\).*a schedule's epochs cannot"):
        run("dense", tmp_path / "a", epochs=2, schedule="cosine", resume=True)
    np.testing.assert_equal(jaxconv.load_run(tmp_path / "a").result["epochs"], 1)


@pytest.mark.parametrize(("target", "code"), [(0.001, None), (1.0, 1)])
def test_a_target_that_is_missed_ends_with_1(target, code, monkeypatch, tmp_path, capsys):
    options = ["--epochs", "1", "--quiet", "--output-dir", str(tmp_path / "a")]
    monkeypatch.setattr("sys.argv", ["dense.py", *options, "--target-accuracy", str(target)])
    if code is None:
        cli(dense.CONFIG, dense.main, None)
        assert capsys.readouterr().err == ""
    else:
        with pytest.raises(SystemExit) as ended:
            cli(dense.CONFIG, dense.main, None)
        assert ended.value.code == code
        found = json.loads((tmp_path / "a" / "result.json").read_text())["test_accuracy"]
        expected = f"error: The test accuracy, {found}, is below the target, 1.0.\n"
        assert capsys.readouterr().err == expected


STOP = {"early_stopping": 2, "restore_best": True, "validation_split": 0.3, "learning_rate": 0.3}


def test_a_run_ends_early_and_keeps_its_best_net(digits, tmp_path, capsys):
    result = run("dense", tmp_path / "a", epochs=12, batch_size=64, seeds="3,7", **STOP)
    printed = capsys.readouterr().out
    assert max(result["last_epochs"]) < 12
    assert f"Ended after epoch {result['last_epochs'][0]}, {result['last_epochs'][1]}" in printed
    trained, data = jaxconv.load_run(tmp_path / "a"), digits.split_validation(0.3)
    assert data.validation is not None
    for i, (best, last) in enumerate(
        zip(result["best_epochs"], result["last_epochs"], strict=True)
    ):
        assert best == last - 2
        losses = [row["val_loss"] for row in trained.history if row["seed"] == (3, 7)[i]]
        means = jaxconv.evaluate(trained.net, trained.states[i], data.validation)
        assert means["loss"] == pytest.approx(losses[best - 1], rel=1e-5)
        test = jaxconv.evaluate(trained.net, trained.states[i], digits.test)
        assert result["test_loss_by_seed"][i] == pytest.approx(test["loss"], rel=1e-5)
        assert int(trained.states[i].step) == last * 4  # 210 digits
    assert result["test_loss_by_seed"] != result["raw_test_loss_by_seed"]


def test_an_early_end_survives_an_interruption(interrupted, tmp_path):
    settings = {"epochs": 12, "batch_size": 64, **STOP}
    run("dense", tmp_path / "a", **settings)
    interrupted(9, signal.SIGINT, "dense", tmp_path / "b", save_every=3, **settings)
    result = run("dense", tmp_path / "b", resume=True, **settings)
    assert result["resumed_at_step"] > 0
    whole, resumed = (jaxconv.load_run(tmp_path / x) for x in "ab")
    assert bits(whole.state) == bits(resumed.state)
    assert whole.result["best_epochs"] == result["best_epochs"]


@pytest.mark.parametrize("settings", [{"early_stopping": 2}, {"restore_best": True}])
def test_the_test_set_decides_nothing(settings, tmp_path):
    message = f"{next(iter(settings))} needs validation samples .* What the test set decided"
    for net in ("dense", "strided"):  # strided validates on the test set
        with pytest.raises(ValueError, match=message):
            run(net, tmp_path / "a", epochs=2, **settings)
    assert not any(tmp_path.iterdir())


def test_a_run_that_ended_early_stays_as_it_is(tmp_path, capsys):
    result = run("dense", tmp_path / "a", epochs=12, batch_size=64, **STOP)
    before = bits(jaxconv.load_run(tmp_path / "a").state)
    again = run("dense", tmp_path / "a", epochs=20, batch_size=64, resume=True, **STOP)
    assert again["last_epochs"] == result["last_epochs"]
    assert again["test_loss"] == result["test_loss"]
    assert bits(jaxconv.load_run(tmp_path / "a").state) == before
