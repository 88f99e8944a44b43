import importlib
import json

import pytest

import jaxconv
from jaxconv.measure.statistics import summarize
from jaxconv.runs import experiment
from tests.support.run_folders import REPORT_FILES, read_rows

pytestmark = pytest.mark.usefixtures("few_digits", "no_pictures")


def run(net: str, folder, **settings) -> dict:
    module = importlib.import_module(f"experiments.{net}")
    return module.main(module.CONFIG.replace(epochs=2, output_dir=str(folder), **settings))


@pytest.mark.parametrize(
    "net", ["dense", *(pytest.param(x, marks=pytest.mark.slow) for x in ("strided", "dropout"))]
)
def test_every_seed_is_the_run_of_that_seed_to_the_bit(net, tmp_path, capsys):
    result = run(net, tmp_path / "all", seeds="3,7,11", group=2)
    printed = capsys.readouterr().out
    files = {path.name for path in (tmp_path / "all").iterdir()}
    names = {"config.json", "metrics.jsonl", "result.json", "checkpoints", ".lock"}
    assert files == {*names, *REPORT_FILES}
    assert json.loads((tmp_path / "all" / "result.json").read_text()) == result
    assert (result["seeds"], result["diverged"], result["group"]) == ([3, 7, 11], [], 2)
    rows = read_rows(tmp_path / "all")
    order = [(3, 1), (7, 1), (3, 2), (7, 2), (11, 1), (11, 2)]
    assert [(row["seed"], row["epoch"]) for row in rows] == order

    figures = ("train_loss", "train_accuracy", "val_loss", "test_loss", "test_accuracy")
    for i, seed in enumerate([3, 7, 11]):
        alone = run(net, tmp_path / str(seed), seed=seed, quiet=True)
        for name in figures:
            assert result[f"{name}_by_seed"][i] == alone[name], (seed, name)
        assert (alone["params_count"], alone["steps"]) == (result["params_count"], result["steps"])
        own = [{**row, "seconds": 0} for row in read_rows(tmp_path / str(seed))]
        assert own[-1]["test_loss"] == alone["test_loss"]
        mine = [row for row in rows if row["seed"] == seed]
        assert own == [{**row, "seconds": 0} for row in mine]
    assert len(set(result["test_loss_by_seed"])) == 3

    values = summarize(result["test_accuracy_by_seed"])
    assert result["test_accuracy"] == values.mean
    assert result["test_accuracy_std"] == values.std
    assert (result["test_accuracy_low"], result["test_accuracy_high"]) == (values.low, values.high)
    assert (result["val_loss"] is None) == (net == "dense")
    assert result["seconds_train"] == pytest.approx(sum(row["seconds"] for row in rows))

    assert (
        f"{net} on digits: {270 if net == 'dropout' else 300} training samples, seeds 3, 7, 11"
        in printed
    )
    assert "seeds 3, 7: Epoch 1/2 - " in printed
    assert "seed 11: Epoch 2/2 - " in printed
    assert "  11  " in printed.split("seed  train loss")[1]
    assert f"Test accuracy: {values} ({values.min:.4f} to {values.max:.4f}; 95% interval" in printed
    assert printed.endswith(f"Mean ± std of 3 seeds\nRun: {tmp_path / 'all'}\n")


def test_a_number_of_seeds_starts_at_the_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dense = importlib.import_module("experiments.dense")
    result = dense.main(dense.CONFIG.replace(epochs=1, seed=5, seeds="2", quiet=True))
    assert result["seeds"] == [5, 6]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["dense-2seeds-1"]


def test_one_seed_of_several_is_that_seed(tmp_path):
    several, alone = run("dense", tmp_path / "a", seeds="7,"), run("dense", tmp_path / "b", seed=7)
    assert several["test_loss"] == alone["test_loss"]
    assert (several["seed"], several["seeds"], alone["seeds"]) == (7, [7], [7])
    assert several.keys() == alone.keys()


def test_seeds_that_diverge_are_named_and_the_others_count(tmp_path, capsys, monkeypatch):
    normal = run("dense", tmp_path / "a", seeds="3", quiet=True)
    fit_seeds = experiment.fit_seeds

    def poisoned(*arguments, **options):
        states, histories = fit_seeds(*arguments, **options)
        histories[1][-1]["loss"] = float("nan")
        return states, histories

    monkeypatch.setattr(experiment, "fit_seeds", poisoned)
    result = run("dense", tmp_path / "b", seeds="3", quiet=True)
    assert result["diverged"] == [1]
    assert "Mean ± std of 2 seeds\nDiverged, and left out: seed 1\n" in capsys.readouterr().out
    kept = [normal["test_loss_by_seed"][i] for i in (0, 2)]
    assert result["test_loss"] == pytest.approx(sum(kept) / 2)
    written = json.loads((tmp_path / "b" / "result.json").read_text())
    assert written["train_loss_by_seed"][1] is None


def test_vmapped_seeds_learn_as_well(tmp_path):
    mapped = run("dense", tmp_path / "a", seeds="2", strategy="map")
    vmapped = run("dense", tmp_path / "b", seeds="2", strategy="vmap")
    assert (mapped["strategy"], vmapped["strategy"]) == ("map", "vmap")
    assert vmapped["test_loss_by_seed"] == pytest.approx(mapped["test_loss_by_seed"], rel=1e-3)


def test_weights_of_several_seeds_are_not_exported(tmp_path):
    with pytest.raises(ValueError, match="writes the weights of one seed, not of seeds '2'"):
        run("dense", tmp_path / "a", seeds="2", export_keras=str(tmp_path / "x.weights.h5"))
    assert list(tmp_path.iterdir()) == []


def test_all_seeds_may_begin_with_the_same_weights(tmp_path):
    weights = str(tmp_path / "x.weights.h5")
    run("dense", tmp_path / "a", export_keras=weights)
    result = run("dense", tmp_path / "b", seeds="4,5", init_from=weights, learning_rate=1e-12)
    first, second = result["test_loss_by_seed"]
    assert first == pytest.approx(second, rel=1e-6)
    model = jaxconv.create_model("dense")
    jaxconv.export.load_weights(weights, model, (28, 28, 1))
