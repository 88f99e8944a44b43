import json
import subprocess
import sys

import numpy as np
import pytest

from experiments.benchmarks import on_accelerator
from experiments.benchmarks.accelerator import accuracy, correctness, determinism, steps
from experiments.benchmarks.accelerator.processes import Part, run_parts, xla_flags
from tests.support import ROOT


def test_cases_are_restricted_and_begin_with_the_first_batch_size():
    cases = steps.list_cases(["lab6", "dense"], ["xla", "patches"], [512, 64], [1, 4])
    assert len(cases) == 2 * 2 * 3  # dense has no convolution, so one form
    assert [case["batch_size"] for case in cases] == [512] * 6 + [64] * 6
    assert {(case["replicas"], case["driver"]) for case in cases} == {(1, "loop"), (4, "vmap")}
    assert steps.list_cases(["strided"])[0]["batch_size"] == 32


def test_steps_are_timed_in_rounds(tmp_path, capsys):
    path = tmp_path / "steps.json"
    cases = steps.list_cases(["dense"], ["xla"], [32, 512], [1, 2])
    options = {"rounds": 3, "block_seconds": 0.001, "workers": 2, "seconds": 60}
    rows = steps.measure(path, cases=cases, samples=256, **options)
    assert json.loads(path.read_text())["rows"] == rows
    for row in rows[:2]:
        assert len(row["samples"]) == 3
        assert row["step_seconds"] == np.median(row["samples"])
        assert 1 <= row["steps_a_sample"] <= 8  # an epoch of 256 samples
    assert all("a batch of 512 needs as many samples, not 256" in row["error"] for row in rows[2:])
    assert "2 of 4 programs compiled" in capsys.readouterr().out


def test_programs_that_are_late_leave_an_error(tmp_path):
    cases = steps.list_cases(["dense"], ["xla"], replicas=[1])
    options = {"rounds": 1, "block_seconds": 0.001, "workers": 1, "seconds": 0}
    rows = steps.measure(tmp_path / "steps.json", cases=cases, samples=256, **options)
    assert "in time" in rows[0]["error"]


def test_gradients_are_near_float64(tmp_path):
    rows = correctness.measure(tmp_path / "x.json", nets=["dense"], samples=8, workers=2)
    errors = {(row["form"], row["dtype"], row["precision"]): row for row in rows}
    assert len(errors) == len(rows) == 6
    assert 0 < errors["xla", "float32", "highest"]["error_of_gradient"] < 1e-5
    assert 1e-4 < errors["xla", "bfloat16", "default"]["error_of_gradient"] < 0.1
    assert errors["patches", "float32", "default"]["from_xla"] == 0  # no convolution


def test_accuracy_over_seeds_is_kept_for_each_net(tmp_path):
    options = {"form": "patches", "seeds": 2, "epochs": 1, "samples": 256}
    (row,) = accuracy.measure(tmp_path / "x.json", nets=["dense"], **options)
    assert len(row["test_accuracy_by_seed"]) == 2
    assert row["test_accuracy_mean"] == pytest.approx(np.mean(row["test_accuracy_by_seed"]))
    assert row["train_seconds"] > 0


def test_an_epoch_repeats_resumed_and_mapped(tmp_path):
    path = tmp_path / "free-a.json"
    (row,) = determinism.measure(path, cases=[("dense", "xla")], samples=512, more=True)
    same = {"equal": True, "largest_difference": 0.0}
    assert row["repeated"] == row["resumed"] == row["mapped"] == same
    assert (tmp_path / "free-a-0.npz").exists()


def test_negative_zero_is_another_bit():
    other = determinism.compare({"a": np.zeros(1)}, {"a": np.array([-0.0])})
    assert other == {"equal": False, "largest_difference": 0.0}


def test_a_part_that_fails_or_is_late_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--theirs")
    assert xla_flags("--ours") == {"XLA_FLAGS": "--theirs --ours"}
    late = Part("steps", {}, tmp_path / "late.json", {})
    assert run_parts([late], 0.05) == {"late": "not done after 0 s"}
    broken = Part("no_such_file", {}, tmp_path / "broken.json", {"XLA_FLAGS": ""})
    assert "exit code 1" in run_parts([broken], 60)["broken"]


def test_results_are_not_overwritten(tmp_path):
    (tmp_path / "steps.json").write_text("{}")
    with pytest.raises(FileExistsError, match=r"steps.json is there already: name another"):
        on_accelerator.main(tmp_path, parts=["steps"])
    with pytest.raises(ValueError, match="batch_sizes"):
        on_accelerator.main(tmp_path / "new", batch_sizes=[0])


@pytest.mark.slow
def test_the_script_measures_a_part_in_a_process(tmp_path):
    """One part: without `--part`, `--tiny` rehearses all of them."""
    command = [sys.executable, on_accelerator.__file__, "--tiny", "--part", "steps"]
    command += ["--nets", "dense", "--replicas", "1", "--output", str(tmp_path)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    assert subprocess.run(command, env=environment).returncode == 0
    rows = json.loads((tmp_path / "steps.json").read_text())["rows"]
    assert [row["net"] for row in rows] == ["dense"]
    assert all(row["step_seconds"] > 0 for row in rows)
