import importlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from jaxconv.runs import experiment
from tests.support import EXPERIMENTS
from tests.support.command_line_runs import run_cli


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


@pytest.mark.slow
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
    dense = importlib.import_module("experiments.dense")
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
    said = process.stderr.read().decode().strip()
    assert said == "SIGINT: saving first (again: at once)" or (not epochs_first and not said)
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
        assert f"and --resume --output-dir {tmp_path / 'run'}" in text
        kept = [json.loads(line) for line in rows.read_text().splitlines()]
        assert [row["epoch"] for row in kept] == list(range(1, len(kept) + 1))
    assert not (tmp_path / "run" / "result.json").exists()


def _drain(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 20)
    except (BlockingIOError, OSError):
        return b""
