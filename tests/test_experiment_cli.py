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

import pytest

from jaxconv import experiment

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


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
        (["--seeds", "0"], "seeds must be 1 to 10000, not '0'"),
        (["--seeds", "many"], "a number of seeds such as 10, or a list such as 3,7,11; not 'many'"),
        (["--seeds", "3,3"], "has one twice"),
        (["--seeds", "3,4", "--seed", "2"], "exclude each other"),
        (["--seeds", "2", "--export-keras", "x.weights.h5"], "the weights of one seed"),
        (["--seeds", "2", "--group", "0"], "group must be a positive integer, not 0"),
        (["--strategy", "vmap"], "strategy and group are for several seeds: add --seeds"),
        (["--strategy", "pmap"], "vmap"),
        (["--dataset", "mnits"], "Unknown data set 'mnits'"),
        (["--dataset", "tfds:mnist", "--data-dir", "/nowhere"], "prepare_tfds.py mnist --data-dir"),
        (["--data-dir", "/nowhere"], "data_dir='/nowhere' is for"),
        (["--validation-split", "1"], r"must be in \[0, 1\), not 1.0"),
        (["--padding", "full"], "padding is 'valid', 'same'.* not 'full'"),
        (["--output-dir", ""], "output_dir is empty"),
        (["--overwrite"], "overwrite needs output_dir or export_keras"),
        (["--init-from", "lost.keras"], "There is no file lost.keras"),
        (["--init-from", "x.npz"], "NAME.weights.h5 or NAME.keras, not in 'x.npz'"),
        (["--export-keras", "x.h5"], "from NAME.weights.h5, not from 'x.h5': change the name"),
        (["--export-keras", "/dev/null/x.weights.h5"], "/dev/null is not a folder"),
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
        "padding", "init-from", "export-keras", "output-dir", "no-compilation-cache", "quiet",
    ):  # fmt: skip
        assert f"--{option} " in run.stdout
    assert "Epochs to train. (default: 15)" in run.stdout


@pytest.mark.parametrize("epochs_first", [0, 2])
def test_ctrl_c_ends_cleanly_and_keeps_what_was_written(tmp_path, epochs_first, request):
    """On a real terminal, so that the live bar is put away as well; also while XLA compiles."""
    master, slave = pty.openpty()
    command = [sys.executable, str(EXPERIMENTS / "dense.py"), "--epochs", "500"]
    command += ["--no-compilation-cache"]
    command += ["--output-dir", str(tmp_path / "run")]
    # Where the tests run in the background, SIGINT is ignored, and children would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=slave, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, before)
    request.addfinalizer(process.kill)
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
