"""Experiments on several processes: they train as one, fail as one, and resume on others."""

import json
import os
import signal
import subprocess
import sys

import jax
import pytest

from jaxconv.runs import prepare
from tests.parallel.process_loss_check import lose, pid_of
from tests.support import EXPERIMENTS, SMALL_RUN
from tests.support.command_line_runs import run_cli
from tests.support.launched_runs import finished, launched, own_environment
from tests.support.made_sets import prepare as prepare_set
from tests.support.run_folders import read_rows, wait_for

PORT = 20_003 + os.getpid() % 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--devices", "0"], "devices must be a positive integer, not 0"),
        (["--devices", "2"], "devices must be at most 1"),
        (["--processes", "0"], "num_processes must be a positive integer, not 0"),
        (["--processes", "2", "--process-id", "2"], "it cannot be 2"),
    ],
)
def test_options_that_make_no_sense_are_refused(monkeypatch, capsys, tmp_path, options, message):
    jax.devices()  # from here on there is one: before, --devices makes more of a CPU
    folder = tmp_path / "run"
    code, output = run_cli(monkeypatch, capsys, "dense", *options, "--output-dir", str(folder))
    assert (code, message in output) == (2, True), output
    assert not folder.exists()


def test_two_processes_train_as_one_and_one_of_them_writes(tmp_path, monkeypatch, capsys, digits):
    options = ["--epochs", "2", "--save-every", "4"]
    both, output = finished(launched("2x1", "dense", tmp_path / "two", *options), tmp_path / "two")
    monkeypatch.setattr(prepare, "load_dataset", lambda *_, **__: digits)
    code, _ = run_cli(
        monkeypatch, capsys, "dense", *options, "--output-dir", str(tmp_path / "alone")
    )
    assert code == 0
    alone = json.loads((tmp_path / "alone" / "result.json").read_text())
    for figure in ("test_loss", "train_loss"):
        assert both[figure] == pytest.approx(alone[figure], rel=1e-5)
    assert (both["processes"], both["devices"]) == (2, 2)
    assert (alone["processes"], alone["devices"]) == (1, 1)
    assert "[0] Each batch is divided among 2 devices of 2 processes" in output
    others = [line for line in output.splitlines() if line.startswith("[1]") and "Gloo" not in line]
    assert others == []
    names = [sorted(path.name for path in (tmp_path / x).iterdir()) for x in ("two", "alone")]
    assert names[0] == names[1]
    assert len(read_rows(tmp_path / "two")) == 2
    saved = sorted(path.name for path in (tmp_path / "two" / "checkpoints").iterdir())
    assert saved == sorted(path.name for path in (tmp_path / "alone" / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "rank", "layout"),
    [
        (signal.SIGKILL, 1, "2x1"),
        (signal.SIGKILL, 0, "1x1"),
        (signal.SIGSTOP, 1, "1x2"),
        (signal.SIGSTOP, 0, "1x1"),
    ],
)
def test_when_one_is_lost_the_others_end_and_the_run_resumes(tmp_path, number, rank, layout):
    folder, options = tmp_path / "run", ["--epochs", "200", "--save-every", "20"]
    _, output = lose(number, rank, folder, *options)
    # The other ended by itself; the launcher would print that it killed it after 30 seconds.
    assert f"Process {1 - rank} was ended by SIGABRT" in output
    if number == signal.SIGKILL:
        assert f"Process {rank} was ended by SIGKILL" in output
    else:
        assert f"Process {rank} did not end within 30 s: killed" in output
    if rank:
        assert f"\n[0] {rank}\n" in output[output.index("coordination_service.cc") :]
    else:  # process 0, which hosts the service that would name it
        assert "Failed to send RPC to coordination service" in output or "Heartbeat" in output
    assert not (folder / "result.json").exists()
    resumed, output = finished(launched(layout, "dense", folder, *options, "--resume"), folder)
    assert f"Resumed in {folder} at step {resumed['resumed_at_step']}" in output
    assert f"{resumed['processes']}x{resumed['devices'] // resumed['processes']}" == layout
    assert resumed["resumed_at_step"] >= 40
    assert [row["epoch"] for row in read_rows(folder)] == list(range(1, 201))
    if layout == "2x1":  # the same layout: to the bit
        whole, _ = finished(launched("2x1", "dense", tmp_path / "b", *options), tmp_path / "b")
        assert resumed["test_loss"] == whole["test_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["1x1", "3x1"])
def test_a_run_that_was_interrupted_resumes_with_another_number_of_processes(tmp_path, layout):
    folder, options = tmp_path / "run", ["--epochs", "12", "--save-every", "100000"]
    process = launched("2x1", "dropout", folder, *options)
    wait_for(folder / "metrics.jsonl", process)
    os.kill(pid_of(1, folder), signal.SIGTERM)  # one receives it, all save and end
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143, output
    (saved,) = (folder / "checkpoints").iterdir()
    assert f"Saved at step {saved.stem}" in output
    whole, _ = finished(
        launched("1x1", "dropout", tmp_path / "whole", *options), tmp_path / "whole"
    )
    resumed, output = finished(launched(layout, "dropout", folder, *options, "--resume"), folder)
    assert f"Resumed in {folder} at step {saved.stem}" in output
    assert resumed["resumed_at_step"] == int(saved.stem)
    assert resumed["test_loss"] == pytest.approx(whole["test_loss"], rel=1e-3)
    assert [row["epoch"] for row in read_rows(folder)] == list(range(1, 13))


@pytest.mark.slow
def test_all_refuse_a_run_that_the_first_refuses(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "result.json").write_text("{}")
    process = launched("2x1", "dense", folder, "--epochs", "1")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert f"[0] error: {folder} already holds a run" in output
    assert f"[1] error: Process 0 of 2 cannot go on: {folder} already holds a run" in output
    assert "Check failure" not in output


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_all_alike(tmp_path):
    process = launched("2x1", "dense", tmp_path / "run", "--epochs", "3", "--learning-rate", "1e30")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert [f"[{rank}] error: The loss is" in output for rank in (0, 1)] == [True, True]


@pytest.mark.slow
def test_several_seeds_on_several_processes_are_the_seeds_alone(tmp_path):
    options = ["--epochs", "1", "--seeds", "2"]
    two, _ = finished(launched("2x1", "dropout", tmp_path / "a", *options), tmp_path / "a")
    one, _ = finished(launched("1x1", "dropout", tmp_path / "b", *options), tmp_path / "b")
    assert two["test_loss_by_seed"] == pytest.approx(one["test_loss_by_seed"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TFDS' own
def test_processes_stream_their_own_rows_and_resume_as_another_number(tmp_path, digits):
    """The last batch has two samples, so that two of four processes have none."""
    prepare_set(tmp_path, "digits", train=digits.train, test=digits.test)
    options = ["--dataset", "tfds:digits", "--data-dir", str(tmp_path), "--batch-size", "149"]
    options += ["--epochs", "20", "--save-every", "5"]
    results = {}
    for name, layout, more in (("a", "1x1", []), ("b", "4x1", ["--stream"])):
        script = {"script": EXPERIMENTS / "dense.py"}
        process = launched(layout, "", tmp_path / name, *options, *more, **script)
        results[name], _ = finished(process, tmp_path / name)
    assert results["b"]["processes"] == 4
    for figure in ("test_loss", "train_loss"):
        assert results["b"][figure] == pytest.approx(results["a"][figure], rel=1e-3)
    (tmp_path / "b" / "result.json").unlink()
    (tmp_path / "b" / "checkpoints" / "60.safetensors").unlink()
    process = launched("2x1", "", tmp_path / "b", *options, "--stream", "--resume", **script)
    resumed, _ = finished(process, tmp_path / "b")
    assert resumed["resumed_at_step"] == 55
    assert resumed["test_loss"] == pytest.approx(results["a"]["test_loss"], rel=1e-3)


@pytest.mark.slow
def test_processes_with_different_settings_are_refused(tmp_path):
    command = [sys.executable, str(SMALL_RUN), "dense", "--processes", "2"]
    command += ["--coordinator", f"localhost:{PORT}", "--output-dir", str(tmp_path / "run")]
    children = [
        subprocess.Popen(
            [*command, "--process-id", str(rank), "--epochs", str(5 + rank)],
            env=own_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for rank, child in enumerate(children):
        _, err = child.communicate(timeout=120)
        assert child.returncode == 2, err
        assert f"error: Process {rank} of 2: all processes need the settings" in err
    assert "(epochs: 6 here, 5 there)" in err
    assert not (tmp_path / "run").exists()
