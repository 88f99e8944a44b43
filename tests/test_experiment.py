import importlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import jaxconv
from jaxconv import experiment

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
NETS = {  # the settings and the parameter counts that the notebooks print
    "lab6": (5, 64, 104_202),
    "intro": (5, 64, 93_322),
    "strided": (10, 32, 40_394),
    "dropout": (15, 128, 34_826),
    "dense": (5, 128, 407_050),
}


@pytest.fixture
def few_digits(monkeypatch, digits):
    monkeypatch.setattr(experiment, "load_dataset", lambda *_, **__: digits)


@pytest.mark.usefixtures("few_digits")
@pytest.mark.parametrize("net", NETS)
def test_every_experiment_runs_and_writes_its_folder(net, tmp_path, capsys):
    module = importlib.import_module(net)
    default = module.Config()
    assert (default.epochs, default.batch_size) == NETS[net][:2]
    assert default.learning_rate == 1e-3
    config = module.Config(epochs=2, output_dir=str(tmp_path / "run"), seed=3)
    result = module.main(config)

    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {"config.json", "metrics.jsonl", "result.json", "curves.png"}
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (written["experiment"], written["seed"], written["epochs"]) == (net, 3, 2)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["epoch"] for row in rows] == [1, 2]
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
    assert all(not isinstance(value, dict | list) for value in result.values())
    assert {"jax_version", "jaxlib_version", "flax_version", "optax_version", "backend"} <= {
        *result
    }

    out = capsys.readouterr().out
    assert f"Total params: {NETS[net][2]:,}" in out
    assert f"Epoch 2/2 - {steps}/{steps} - " in out
    assert f"Test accuracy: {result['test_accuracy']:.4f}\nRun: {tmp_path / 'run'}\n" in out


def test_every_net_is_trained_as_its_notebook_does(monkeypatch):
    seen = {}
    monkeypatch.setattr(experiment, "run", lambda config, **given: seen.update(given))
    for net in NETS:
        module = importlib.import_module(net)
        module.main(module.Config())
        adam = net in ("strided", "dropout")
        assert seen["tx"] is (jaxconv.adam if adam else jaxconv.rmsprop)
        one_hot = "one_hot_labels" in seen["loss"].__qualname__
        assert one_hot == (net == "dropout")
        assert seen["name"] == net
        model = seen["model"](3)
        assert model.num_classes == 3
        assert seen.pop("validate_on_test", False) == (net == "strided")


def test_a_padding_that_cannot_matter_is_refused():
    dense = importlib.import_module("dense")
    with pytest.raises(ValueError, match="no convolution that padding='same' could change"):
        dense.main(dense.Config(padding="same"))


@pytest.mark.usefixtures("few_digits")
def test_the_same_seed_gives_the_same_result(tmp_path):
    dense = importlib.import_module("dense")

    def loss(folder: str, **settings) -> float:
        config = dense.Config(epochs=1, quiet=True, output_dir=str(tmp_path / folder), **settings)
        return dense.main(config)["test_loss"]

    assert loss("a") == loss("b")
    assert len({loss("a", overwrite=True), loss("c", seed=1), loss("d", learning_rate=0.01)}) == 3


def run_cli(monkeypatch, capsys, net: str, *arguments: str) -> tuple[int, str]:
    module = importlib.import_module(net)
    monkeypatch.setattr(sys, "argv", [f"{net}.py", *arguments])
    code: object = 0
    try:
        experiment.cli(module.Config, module.main, module.__doc__)
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert isinstance(code, int)
    return code, out + err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "epochs must be a positive integer, not 0"),
        (["--epochs", "many"], "many"),
        (["--batch-size", "-5"], "batch_size must be a positive integer, not -5"),
        (["--learning-rate", "nan"], "learning_rate must be positive and finite, not nan"),
        (["--learning-rate", "-1"], "learning_rate must be positive and finite, not -1.0"),
        (["--seed", "-1"], r"seed must be in \[0, 2\*\*32\), not -1"),
        (["--dataset", "mnits"], "Unknown data set 'mnits'"),
        (["--dataset", "tfds:mnist", "--data-dir", "/nowhere"], "prepare_tfds.py mnist --data-dir"),
        (["--data-dir", "/nowhere"], "data_dir='/nowhere' is for"),
        (["--validation-split", "1"], r"must be in \[0, 1\), not 1.0"),
        (["--padding", "full"], "padding is 'valid', 'same'.* not 'full'"),
        (["--output-dir", ""], "output_dir is empty"),
        (["--overwrite"], "overwrite needs output_dir"),
        (["--output-dir", "/dev/null/x"], "/dev/null"),
        (["--epoch", "3"], "--epochs"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_input_ends_with_a_message_and_code_2(
    arguments, message, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    code, text = run_cli(monkeypatch, capsys, "lab6", *arguments)
    assert code == 2
    assert re.search(message, text), text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("few_digits")
def test_a_named_folder_is_not_overwritten_unasked(monkeypatch, capsys, tmp_path):
    common = ["--epochs", "1", "--quiet", "--output-dir", str(tmp_path / "x")]
    code, text = run_cli(monkeypatch, capsys, "dense", *common)
    assert code == 0
    assert re.fullmatch(r"Test loss: [\d.]+\nTest accuracy: [\d.]+\nRun: .*/x\n", text)
    before = (tmp_path / "x" / "result.json").read_text()
    code, text = run_cli(monkeypatch, capsys, "dense", *common)
    assert code == 2
    assert "--overwrite" in text
    assert (tmp_path / "x" / "result.json").read_text() == before
    assert run_cli(monkeypatch, capsys, "dense", *common, "--overwrite")[0] == 0


@pytest.mark.usefixtures("few_digits")
def test_what_looks_bad_but_is_legal_works(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    legal = ["--batch-size", "100000", "--epochs", "1", "--padding", "Same", "--quiet"]
    assert run_cli(monkeypatch, capsys, "strided", *legal)[0] == 0
    code, _ = run_cli(monkeypatch, capsys, "strided", *legal[2:], "--validation-split", "0.5")
    assert code == 0
    rows = [
        json.loads((path / "result.json").read_text()) for path in (tmp_path / "runs").iterdir()
    ]
    assert {row["params_count"] for row in rows} == {89_546}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"strided-0-1", "strided-0-2"}


@pytest.mark.usefixtures("few_digits")
def test_on_a_bare_machine_the_defaults_run_and_what_is_left_out_is_said(
    monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    for missing in ("tyro", "matplotlib", "rich"):
        monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(
        experiment.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else name
    )
    dense = importlib.import_module("dense")
    monkeypatch.setattr(dense.Config, "__init__", _with_one_epoch(dense.Config.__init__))
    code, text = run_cli(monkeypatch, capsys, "dense")
    assert code == 0
    assert "tyro is not installed: running with the defaults." in text
    assert "matplotlib is missing: curves.png is left out" in text
    assert not (tmp_path / "runs" / "dense-0-1" / "curves.png").exists()
    code, text = run_cli(monkeypatch, capsys, "dense", "--epochs", "1")
    assert code == 2
    assert "pip install tyro" in text


def _with_one_epoch(init):
    return lambda self, **settings: init(self, **{"epochs": 1, **settings})


def test_help_reads_well():
    command = [sys.executable, str(EXPERIMENTS / "dropout.py"), "--help"]
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "100"}
    )
    assert "notebook 004" in run.stdout
    for option in (
        "epochs", "batch-size", "learning-rate", "seed", "dataset", "data-dir", "validation-split",
        "padding", "output-dir", "quiet",
    ):  # fmt: skip
        assert f"--{option} " in run.stdout
    assert "Epochs to train. (default: 15)" in run.stdout


@pytest.mark.parametrize("epochs_first", [0, 2])
def test_ctrl_c_ends_cleanly_and_keeps_what_was_written(tmp_path, epochs_first):
    """On a real terminal, so that the live bar is put away as well; also while XLA compiles."""
    master, slave = pty.openpty()
    command = [sys.executable, str(EXPERIMENTS / "dense.py"), "--epochs", "500"]
    command += ["--output-dir", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=slave, stderr=subprocess.PIPE)
    os.close(slave)
    os.set_blocking(master, False)
    config, rows = tmp_path / "run" / "config.json", tmp_path / "run" / "metrics.jsonl"
    output, deadline = b"", time.monotonic() + 120

    def wait_until(reached) -> None:
        nonlocal output
        while not reached():
            assert time.monotonic() < deadline
            output += _drain(master)
            time.sleep(0.02)

    wait_until(
        lambda: (
            config.exists()
            and (
                epochs_first == 0
                or (rows.exists() and rows.read_text().count("\n") >= epochs_first)
            )
        )
    )
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    wait_until(lambda: process.poll() is not None)
    output += _drain(master)
    assert process.returncode == 130
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    os.close(master)
    text = output.decode()
    if epochs_first == 0:
        assert "Interrupted before an epoch had ended" in text
        assert not rows.exists()
    else:
        assert "Epoch 1/500" in text
        assert "━" in text
        assert "Interrupted. The epochs that ended are in" in text
        kept = [json.loads(line) for line in rows.read_text().splitlines()]
        assert [row["epoch"] for row in kept] == list(range(1, len(kept) + 1))
    assert not (tmp_path / "run" / "result.json").exists()


def _drain(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 20)
    except (BlockingIOError, OSError):
        return b""


def test_the_accuracy_table_is_made_of_runs(monkeypatch, digits, tmp_path, capsys):
    monkeypatch.setattr(experiment, "load_dataset", lambda *_, **__: digits)
    monkeypatch.chdir(tmp_path)
    table = importlib.import_module("accuracy_table")
    table.main(["dense"], 2, tmp_path / "results" / "accuracy.json")
    runs = json.loads((tmp_path / "results" / "accuracy.json").read_text())
    assert [run["seed"] for run in runs] == [0, 1]
    mean = sum(run["test_accuracy"] for run in runs) / 2
    assert f"| `dense` | 407,050 | 5 | {mean:.4f} ± " in capsys.readouterr().out
    kept = [{**runs[0], "experiment": "lab6"}, *runs]
    (tmp_path / "results" / "accuracy.json").write_text(json.dumps(kept))
    table.main(["dense"], 1, tmp_path / "results" / "accuracy.json")
    again = json.loads((tmp_path / "results" / "accuracy.json").read_text())
    assert [(run["experiment"], run["seed"]) for run in again] == [("lab6", 0), ("dense", 0)]


@pytest.mark.slow
def test_one_epoch_of_lab6_learns_the_real_mnist(tmp_path):
    lab6 = importlib.import_module("lab6")
    result = lab6.main(lab6.Config(epochs=1, quiet=True, output_dir=str(tmp_path)))
    assert result["steps"] == 938
    assert result["test_accuracy"] > 0.975


def test_colour_images_and_other_classes_train_like_any(monkeypatch, tmp_path, capsys):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 32, 32, 3), np.uint8)
    label = rng.integers(0, 7, 64)
    colour = jaxconv.Dataset.from_arrays(image, label, image, label, num_classes=7, name="colour")
    monkeypatch.setattr(experiment, "load_dataset", lambda *_, **__: colour)
    lab6 = importlib.import_module("lab6")
    result = lab6.main(lab6.Config(epochs=1, output_dir=str(tmp_path)))
    assert result["dataset"] == "colour"
    assert "logits (Dense)     (None, 7)" in capsys.readouterr().out
