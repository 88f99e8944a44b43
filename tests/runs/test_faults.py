"""What befalls real processes: signals, a full disk, a folder that is none, a second run."""

import json
import os
import signal
import time
from subprocess import PIPE

import pytest

from tests.runs.kill_runs import finish, main, outcome, start

LIMIT = "300000"  # bytes a file: the first kernel of `dense` has five times as many


@pytest.mark.slow
def test_runs_killed_at_any_moment_resume_to_the_bit(tmp_path):
    """CI's share: `python tests/runs/kill_runs.py` kills fifty."""
    where = main("dropout", 10, seed=1, parent=tmp_path)
    assert sum(where.values()) >= 10
    assert where.keys() == {"in a save", "between saves"}


def wait_for(path, process):
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_signal_saves_and_ends_with_its_code_and_a_second_run_is_refused(number, code, tmp_path):
    folder, options = tmp_path / "a", ["--epochs", "100000", "--save-every", "1000000"]
    first = start("dense", folder, *options)
    wait_for(folder / "metrics.jsonl", first)
    for more in ([], ["--overwrite"], ["--resume"]):
        second = start("dense", folder, *options, *more)
        said, _ = second.communicate(timeout=120)
        assert second.returncode == 2
        assert f"in use by another run (process {first.pid})" in said
    first.send_signal(number)
    said, _ = first.communicate(timeout=120)
    assert first.returncode == code, said
    assert f"{number.name}: saving first (again: at once)" in said
    (saved,) = (folder / "checkpoints").iterdir()
    assert f"Saved at step {saved.name}. An experiment goes on with its options" in said
    assert f"--resume --output-dir {folder}" in said
    assert "Traceback" not in said
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == int(saved.name) // 10  # not more than the epoch under way is not in it
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "checkpoints",
    }


def test_a_second_signal_ends_at_once(tmp_path):
    process = start("dense", tmp_path / "a", "--epochs", "100000", "--save-every", "1000000")
    wait_for(tmp_path / "a" / "metrics.jsonl", process)
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode in (143, 130)
    assert "Traceback" not in said
    assert "Saved" not in said
    assert not (tmp_path / "a" / "checkpoints").exists()


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_training_goes_on(tmp_path):
    """Some files can no longer be written: the last good checkpoint stays, the result comes."""
    full = {"env": {**os.environ, "FILE_SIZE_LIMIT": LIMIT}}
    options = ["--epochs", "100", "--save-every", "50", "--no-compilation-cache"]
    finish(start("dense", tmp_path / "whole", *options))
    expected = outcome(tmp_path / "whole")

    said = finish(start("dense", tmp_path / "a", *options, **full))
    assert said.count("WAS NOT SAVED: ") == 20
    assert "Traceback" not in said
    assert "File too large" in said
    assert "The training goes on; the last good checkpoint is none." in said
    assert "Checkpoints that could not be saved: 20" in said
    assert list((tmp_path / "a" / "checkpoints").iterdir()) == []
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    assert result["test_loss"] == expected["metrics"][4]

    process = start("dense", tmp_path / "b", *options)
    wait_for(tmp_path / "b" / "checkpoints" / "50", process)
    process.kill()
    process.communicate()
    steps = {path.name for path in (tmp_path / "b" / "checkpoints").glob("[0-9]*")}
    said = finish(start("dense", tmp_path / "b", *options, "--resume", **full))
    assert f"the last good checkpoint is {max(steps, key=int)}." in said
    assert {path.name for path in (tmp_path / "b" / "checkpoints").iterdir()} == steps
    result = json.loads((tmp_path / "b" / "result.json").read_text())
    assert result["test_loss"] == expected["metrics"][4]


def test_a_folder_that_is_none_is_told_and_the_training_goes_on(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "checkpoints").write_text("a file")
    said = finish(start("dense", tmp_path / "a", "--epochs", "2", "--resume"))
    assert "a/checkpoints/10 WAS NOT SAVED: " in said
    assert "Not a directory" in said
    assert "Traceback" not in said
    assert (tmp_path / "a" / "result.json").exists()
    assert (tmp_path / "a" / "checkpoints").read_text() == "a file"


@pytest.mark.slow
def test_an_output_that_is_lost_does_not_end_the_training(tmp_path):
    with open("/dev/full", "w") as full:
        process = start("dense", tmp_path / "a", "--epochs", "2", stdout=full, stderr=PIPE)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert said.count("WARNING: OUTPUT IS LOST ([Errno 28] No space left on device)") == 1
    assert json.loads((tmp_path / "a" / "result.json").read_text())["epochs"] == 2


@pytest.mark.slow
def test_a_signal_into_a_closed_pipe_saves_all_the_same(tmp_path):
    """As Ctrl-C in `python lab6.py 2>&1 | tee log`, which ends tee as well."""
    options = ["--epochs", "100000", "--save-every", "1000000"]
    process = start("dense", tmp_path / "a", *options)  # both outputs into one pipe
    wait_for(tmp_path / "a" / "metrics.jsonl", process)
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    assert list((tmp_path / "a" / "checkpoints").iterdir())
