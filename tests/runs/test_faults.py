"""Faults of real processes: signals, a full disk, a file in place of a folder, a second run."""

import json
import os
import signal

import pytest

from jaxconv.runs import Checkpoints
from tests.runs.kill_runs import finish, main, outcome, start
from tests.support.run_folders import read_rows, wait_for

LIMIT = "300000"  # bytes a file: the first kernel of `dense` has five times as many


@pytest.mark.slow
def test_runs_killed_at_any_moment_resume_to_the_bit(tmp_path):
    """CI's share: `python tests/runs/kill_runs.py` kills fifty."""
    where = main("dropout", 6, seed=1, parent=tmp_path)
    assert sum(where.values()) >= 6
    assert where.keys() == {"in a save", "between saves"}


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_ends_with_its_code_and_a_second_run_is_refused(number, code, tmp_path):
    folder, options = tmp_path / "a", ["--epochs", "100000", "--save-every", "1000000"]
    first = start("dense", folder, *options)
    wait_for(folder / "metrics.jsonl", first)
    second = start("dense", folder, *options, "--overwrite")
    printed, _ = second.communicate(timeout=120)
    assert second.returncode == 2
    assert f"{folder} is in use by another run: wait for its end" in printed
    first.send_signal(number)
    printed, _ = first.communicate(timeout=120)
    assert first.returncode == code, printed
    assert f"{number.name}: saving first (again: at once)" in printed
    (saved,) = (folder / "checkpoints").iterdir()
    assert f"Saved at step {saved.stem}. To resume, repeat the options" in printed
    assert f"--resume --output-dir {folder}" in printed
    assert "Traceback" not in printed
    assert len(read_rows(folder)) == int(saved.stem) // 10  # all epochs but the one under way
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "checkpoints",
        ".lock",
    }


def test_a_second_signal_ends_at_once(tmp_path):
    process = start("dense", tmp_path / "a", "--epochs", "100000", "--save-every", "1000000")
    wait_for(tmp_path / "a" / "metrics.jsonl", process)
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode in (143, 130)
    assert "Traceback" not in printed
    assert "Saved" not in printed
    assert not (tmp_path / "a" / "checkpoints").exists()


@pytest.mark.slow
def test_a_full_disk_prints_warnings_and_the_training_goes_on(tmp_path):
    """Some files can no longer be written: the last good checkpoint stays, the result comes."""
    full = {"env": {**os.environ, "FILE_SIZE_LIMIT": LIMIT}}
    options = ["--epochs", "100", "--save-every", "50", "--no-compilation-cache"]
    finish(start("dense", tmp_path / "whole", *options))
    expected = outcome(tmp_path / "whole")

    printed = finish(start("dense", tmp_path / "a", *options, **full), code=2)
    assert printed.count("WAS NOT SAVED: ") == 21  # the last one is tried again at the end
    assert "Traceback" not in printed
    assert "File too large" in printed
    assert "The training goes on; the last good checkpoint is none." in printed
    assert "Checkpoints that could not be saved: 21" in printed
    assert "error: [Errno 27] File too large" in printed  # nor can the net be kept
    assert list((tmp_path / "a" / "checkpoints").iterdir()) == []
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    assert result["test_loss"] == expected["metrics"][4]

    process = start("dense", tmp_path / "b", *options)
    wait_for(tmp_path / "b" / "checkpoints" / "50.safetensors", process)
    process.kill()
    process.communicate()
    steps = Checkpoints(tmp_path / "b" / "checkpoints").steps()
    printed = finish(start("dense", tmp_path / "b", *options, "--resume", **full), code=2)
    saves = tmp_path / "b" / "checkpoints"
    assert f"the last good checkpoint is {saves / str(max(steps))}.safetensors." in printed
    assert {int(path.stem) for path in saves.iterdir()} == {*steps}
    result = json.loads((tmp_path / "b" / "result.json").read_text())
    assert result["test_loss"] == expected["metrics"][4]


def test_a_file_named_checkpoints_prints_a_warning_and_the_training_goes_on(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "checkpoints").write_text("a file")
    printed = finish(start("dense", tmp_path / "a", "--epochs", "2", "--resume"))
    assert "a/checkpoints is not a folder, so it has no checkpoint, and none can be" in printed
    assert "a/checkpoints/10.safetensors WAS NOT SAVED: " in printed
    assert "File exists" in printed
    assert "Traceback" not in printed
    assert (tmp_path / "a" / "result.json").exists()
    assert (tmp_path / "a" / "checkpoints").read_text() == "a file"
