import json
import sys

import numpy as np
import pytest

from experiments.benchmarks import bench_record
from experiments.benchmarks.peers import speed_main


class Known:
    """Trains in 3, 5, 4 s and so on, to an accuracy of 0.5."""

    def __init__(self, recipe, train, test):
        assert recipe == {"samples": 2}
        assert train.image.shape[1:] == test.image.shape[1:] == (28, 28, 1)
        self.left = [3.0, 5.0, 4.0, 9.0]

    def fit(self):
        return self.left.pop(0)

    def accuracy(self):
        return 0.5


@pytest.mark.parametrize(("times", "seconds"), [(3, 5.0), (0, None)])
def test_a_process_reports_the_median_after_the_first_training(
    times, seconds, monkeypatch, tmp_path, capsys
):
    image, label = np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.uint8)
    np.savez(tmp_path / "d.npz", x_train=image, y_train=label, x_test=image, y_test=label)
    options = ["--data", str(tmp_path / "d.npz"), "--times", str(times)]
    monkeypatch.setattr(sys, "argv", ["peer", '{"samples": 2}', *options])
    speed_main.main(Known, "numpy")
    report = json.loads(capsys.readouterr().out)
    assert report.get("seconds") == seconds
    assert (report["accuracy"], report["version"]) == (0.5, np.__version__)


def test_libraries_take_turns_and_ratios_are_those_of_a_round(monkeypatch, tmp_path, capsys):
    calls = []

    def measure(peer, *arguments):
        calls.append(peer)
        if peer == "PyTorch":
            return {"error": "No module named 'torch'"}
        own = 1.0 if peer == "jaxconv" else 2.5
        return {"seconds": own, "whole_seconds": 2 * own, "accuracy": 0.99, "version": "1"}

    monkeypatch.setattr(bench_record, "measure", measure)
    content = bench_record.main(2, tmp_path / "x.json")
    assert calls[1:] == [*bench_record.PEERS] * 4
    assert json.loads((tmp_path / "x.json").read_text()) == content
    lines = capsys.readouterr().out.splitlines()
    assert "PyTorch: No module named 'torch'" in lines
    compiled = next(line for line in lines if line.startswith("| PyTorch, torch.compile"))
    assert "| 2.50 (2.50 to 2.50) | 2.50 (2.50 to 2.50) | 5.00 (5.00 to 5.00) |" in compiled
