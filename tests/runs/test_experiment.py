import importlib
import json
import shlex
import sys

import jax
import numpy as np
import pytest

import jaxconv
from experiments.benchmarks.keras_nets import keras_batch, keras_model
from experiments.benchmarks.recipes import NOTEBOOKS
from jaxconv import runs
from jaxconv.measure import compilation_cache
from jaxconv.measure.compilation_cache import cache_if_possible
from jaxconv.runs import experiment, prepare, run_folder
from tests.support.run_folders import REPORT_FILES, read_rows

NETS = {  # the settings and the parameter counts that the notebooks print
    "lab6": (5, 64, 104_202),
    "intro": (5, 64, 93_322),
    "strided": (10, 32, 40_394),
    "dropout": (15, 128, 34_826),
    "dense": (5, 128, 407_050),
}


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize(
    "net", [pytest.param(x, marks=[pytest.mark.slow] * (x in ("dropout", "intro"))) for x in NETS]
)
def test_every_experiment_runs_and_writes_its_folder(net, tmp_path, capsys):
    module = importlib.import_module(f"experiments.{net}")
    default = module.CONFIG.training
    assert (default.epochs, default.batch_size) == NETS[net][:2]
    assert default.learning_rate == 1e-3
    config = module.CONFIG.replace(epochs=2, output_dir=str(tmp_path / "run"), seed=3)
    result = module.main(config)

    files = {path.name for path in (tmp_path / "run").iterdir()}
    names = {"config.json", "metrics.jsonl", "result.json", "checkpoints", ".lock"}
    assert files == {*names, *REPORT_FILES}
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (written["experiment"], written["command"]) == (net, shlex.join(sys.argv))
    assert (written["seeds"]["seed"], written["training"]["epochs"]) == (3, 2)
    rows = read_rows(tmp_path / "run")
    assert [(row["seed"], row["epoch"]) for row in rows] == [(3, 1), (3, 2)]
    assert ["test_loss" in row for row in rows] == [False, True]
    validated = net in ("strided", "dropout")
    assert ("val_loss" in rows[0]) == validated
    assert (result["val_accuracy"] is not None) == validated
    if net == "strided":  # the notebook validates on the test set
        assert result["val_loss"] == pytest.approx(result["test_loss"], rel=1e-6)

    samples = 270 if net == "dropout" else 300
    steps = -(-samples // default.batch_size)
    assert (result["params_count"], result["steps"]) == (NETS[net][2], 2 * steps)
    assert result["train_loss"] == rows[1]["loss"] < rows[0]["loss"]
    assert result["seconds_train"] == pytest.approx(sum(row["seconds"] for row in rows))
    assert result["seconds_compile"] > 0
    assert 0 <= result["seconds_evaluation"] < result["seconds_total"]
    assert all(not isinstance(value, dict) for value in result.values())
    assert (result["seed"], result["seeds"], result["group"]) == (3, [3], 5)
    assert result["test_loss_by_seed"] == [result["test_loss"]]
    assert {"jax_version", "jaxlib_version", "flax_version", "optax_version", "backend"} <= {
        *result
    }

    out = capsys.readouterr().out
    assert f"Total params: {NETS[net][2]:,}" in out
    assert f"Epoch 2/2 - {steps}/{steps} - " in out
    assert f"Test accuracy: {result['test_accuracy']:.4f}\nRun: {tmp_path / 'run'}\n" in out


def test_every_net_is_trained_as_its_notebook_does(monkeypatch):
    seen = []
    monkeypatch.setattr(runs, "run", lambda recipe, config: seen.append(recipe))
    for net in NETS:
        module = importlib.import_module(f"experiments.{net}")
        module.main()
        recipe = seen.pop()
        adam = net in ("strided", "dropout")
        assert recipe.tx is (jaxconv.adam if adam else jaxconv.rmsprop)
        assert ("one_hot_labels" in recipe.loss.__qualname__) == (net == "dropout")
        assert recipe.name == net
        assert recipe.validate_on_test == (net == "strided")
        assert recipe.model(3).num_classes == 3


@pytest.mark.usefixtures("few_digits")
def test_the_same_seed_gives_the_same_result(tmp_path):
    dense = importlib.import_module("experiments.dense")

    def loss(folder: str, **settings) -> float:
        config = dense.CONFIG.replace(
            epochs=1, quiet=True, output_dir=str(tmp_path / folder), **settings
        )
        return dense.main(config)["test_loss"]

    assert loss("a") == loss("b")
    assert len({loss("a", overwrite=True), loss("c", seed=1), loss("d", learning_rate=0.01)}) == 3


@pytest.mark.usefixtures("few_digits", "no_pictures")
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="JAX uses the device")
def test_an_nvidia_device_that_jax_does_not_use_is_named(tmp_path, capsys, monkeypatch):
    dense = importlib.import_module("experiments.dense")
    config = dense.CONFIG.replace(epochs=1)
    for folder, named in ((tmp_path, True), (tmp_path / "none", False)):
        monkeypatch.setattr(experiment, "NVIDIA", folder)
        dense.main(config.replace(output_dir=str(tmp_path / f"run-{named}")))
        assert ('pip install -U "jax[cuda13]"' in capsys.readouterr().out) == named


@pytest.mark.usefixtures("few_digits", "no_pictures")
def test_a_second_run_in_the_same_process_compiles_only_its_predictions(tmp_path):
    dense = importlib.import_module("experiments.dense")
    config = dense.CONFIG.replace(epochs=1, quiet=True)
    results = [dense.main(config.replace(output_dir=str(tmp_path / x), seed=7)) for x in "ab"]
    assert results[1]["programs"] == 1
    assert results[1]["test_loss"] == results[0]["test_loss"]


@pytest.mark.usefixtures("few_digits", "no_pictures")
def test_a_second_run_takes_its_programs_from_the_cache(tmp_path, capsys, monkeypatch):
    dense = importlib.import_module("experiments.dense")
    monkeypatch.setattr(compilation_cache, "cache_folder", lambda: str(tmp_path / "cache"))

    def run(folder: str, **settings) -> tuple[dict, str]:
        prepare._functions.cache_clear()  # as in a new process
        config = dense.CONFIG.replace(epochs=1, output_dir=str(tmp_path / folder), **settings)
        return dense.main(config), capsys.readouterr().out

    cold, printed = run("a")
    assert cold["compilation_cache"] == "cold"
    count = cold["programs"]
    counts = f"{count} of {count} programs compiled; {tmp_path / 'cache'}"
    assert f"Compilation: {cold['seconds_compile']:.1f}s, cold ({counts})\n" in printed
    assert cold["programs_compiled"] == count >= 3  # state, epoch, evaluation
    cached, printed = run("b", seed=1)
    assert cached["compilation_cache"] == "cached"
    assert (
        f"Compilation: {cached['seconds_compile']:.1f}s, cached (0 of {cached['programs']} programs"
        in printed
    )
    assert cached["programs_compiled"] == 0
    assert run("c")[0]["test_loss"] == cold["test_loss"]  # the same programs, to the bit
    partly = run("d", learning_rate=0.1)[0]
    assert partly["compilation_cache"] == "cold"
    assert 0 < partly["programs_compiled"] < partly["programs"]
    files = {path.name for path in (tmp_path / "cache").iterdir()}
    off, printed = run("e", learning_rate=0.2, compilation_cache=False)
    assert (off["compilation_cache"], off["test_loss"] > 0) == ("off", True)
    assert f"Compilation: {off['seconds_compile']:.1f}s, off\n" in printed
    assert {path.name for path in (tmp_path / "cache").iterdir()} == files


@pytest.mark.usefixtures("few_digits", "no_pictures")
def test_half_a_program_in_the_cache_is_compiled_anew(tmp_path, monkeypatch):
    dense, cache = importlib.import_module("experiments.dense"), tmp_path / "cache"
    monkeypatch.setattr(compilation_cache, "cache_folder", lambda: str(cache))

    def run(folder: str) -> dict:
        prepare._functions.cache_clear()  # as in a new process
        return dense.main(
            dense.CONFIG.replace(epochs=1, quiet=True, output_dir=str(tmp_path / folder))
        )

    first = run("a")
    (entry,) = cache.glob("jit_train_epoch_replicas-*-cache")
    entry.write_bytes(entry.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache"):
        second = run("b")
    assert (second["compilation_cache"], second["programs_compiled"]) == ("cold", 1)
    assert second["test_loss"] == first["test_loss"]
    entry.unlink()
    assert run("c")["programs_compiled"] == 1
    assert run("d")["compilation_cache"] == "cached"


@pytest.mark.usefixtures("few_digits")
def test_a_cache_that_the_environment_forbids_is_not_used(tmp_path, capsys, monkeypatch):
    dense = importlib.import_module("experiments.dense")
    monkeypatch.setattr(compilation_cache, "cache_folder", lambda: str(tmp_path / "cache"))
    with cache_if_possible(wanted=False):  # as JAX_ENABLE_COMPILATION_CACHE=false
        config = dense.CONFIG.replace(epochs=1, output_dir=str(tmp_path / "x"), quiet=True)
        assert dense.main(config)["compilation_cache"] == "off"
    printed = "Compilation cache: off, because JAX_ENABLE_COMPILATION_CACHE is false"
    assert printed in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("few_digits")
def test_a_cache_that_cannot_be_made_is_reported_and_the_run_goes_on(tmp_path, capsys, monkeypatch):
    dense = importlib.import_module("experiments.dense")
    monkeypatch.setattr(compilation_cache, "cache_folder", lambda: "/dev/null/cache")
    config = dense.CONFIG.replace(epochs=1, output_dir=str(tmp_path / "x"), quiet=True)
    assert dense.main(config)["compilation_cache"] == "off"
    assert (
        "Compilation cache: off, [Errno 20] Not a directory: '/dev/null/cache'"
        in capsys.readouterr().out
    )


@pytest.mark.usefixtures("few_digits")
def test_weights_are_exported_to_keras_and_come_back(tmp_path, digits, capsys):
    dense = importlib.import_module("experiments.dense")
    weights = str(tmp_path / "new" / "dense.weights.h5")

    def run(folder: str, **settings) -> dict:
        config = dense.CONFIG.replace(epochs=1, output_dir=str(tmp_path / folder), **settings)
        return dense.main(config)

    first = run("a", learning_rate=0.003, export_keras=weights)
    assert f"Keras weights: {weights}\n" in capsys.readouterr().out
    theirs = keras_model("dense", NOTEBOOKS["dense"])
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        theirs.load_weights(weights)
    loss, accuracy = theirs.evaluate(
        *keras_batch(digits.test, NOTEBOOKS["dense"], "float32"), verbose=0
    )
    assert (loss, accuracy) == pytest.approx((first["test_loss"], first["test_accuracy"]), rel=1e-5)

    second = run("b", learning_rate=1e-12, init_from=weights, seed=1)
    assert second["test_loss"] == pytest.approx(first["test_loss"], rel=1e-6)
    assert f"Initial weights: {weights}\n" in capsys.readouterr().out
    assert json.loads((tmp_path / "b" / "config.json").read_text())["run"]["init_from"] == weights

    before = (tmp_path / "new" / "dense.weights.h5").read_bytes()
    with pytest.raises(FileExistsError, match="is there already"):
        run("c", export_keras=weights)
    assert not (tmp_path / "c").exists()
    assert (tmp_path / "new" / "dense.weights.h5").read_bytes() == before
    run("c", export_keras=weights, overwrite=True)
    assert (tmp_path / "new" / "dense.weights.h5").read_bytes() != before


@pytest.mark.usefixtures("few_digits")
def test_the_net_is_kept_if_its_export_fails(tmp_path, monkeypatch, capsys):
    dense, taken = importlib.import_module("experiments.dense"), tmp_path / "w.weights.h5"
    monkeypatch.setattr(run_folder, "plot_run", lambda *_, **__: taken.write_text("mine"))
    config = dense.CONFIG.replace(epochs=1, output_dir=str(tmp_path / "x"), export_keras=str(taken))
    with pytest.raises(OSError, match=r"is there already.*The trained net is in .*/x/model\.safet"):
        dense.main(config)
    assert taken.read_text() == "mine"
    assert "Test accuracy: " in capsys.readouterr().out
    assert jaxconv.load_run(tmp_path / "x").seeds == (0,)


@pytest.mark.usefixtures("few_digits")
def test_weights_of_another_net_stop_the_run_before_it_begins(tmp_path):
    theirs = keras_model("dense", NOTEBOOKS["dense"])
    theirs.save(tmp_path / "dense.keras")
    lab6 = importlib.import_module("experiments.lab6")
    config = lab6.CONFIG.replace(
        init_from=str(tmp_path / "dense.keras"), output_dir=str(tmp_path / "x")
    )
    with pytest.raises(ValueError, match=r"'conv1' \(conv2d in the file\): has no kernel"):
        lab6.main(config)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_one_epoch_of_lab6_learns_the_real_mnist(tmp_path):
    lab6 = importlib.import_module("experiments.lab6")
    result = lab6.main(lab6.CONFIG.replace(epochs=1, quiet=True, output_dir=str(tmp_path)))
    assert result["steps"] == 938
    assert result["test_accuracy"] > 0.975


def test_colour_images_and_other_classes_train_like_any(monkeypatch, tmp_path, capsys):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 32, 32, 3), np.uint8)
    label = rng.integers(0, 7, 64)
    colour = jaxconv.Dataset.from_arrays(image, label, image, label, num_classes=7, name="colour")
    monkeypatch.setattr(prepare, "load_dataset", lambda *_, **__: colour)
    lab6 = importlib.import_module("experiments.lab6")
    result = lab6.main(lab6.CONFIG.replace(epochs=1, output_dir=str(tmp_path)))
    assert result["dataset"] == "colour"
    assert "logits (Dense)     (None, 7)" in capsys.readouterr().out
