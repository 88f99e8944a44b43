import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmarks import scaling
from tests.support import EXPERIMENTS

SCRIPT = Path(scaling.__file__)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nets": ["lab5"]}, "Unknown net 'lab5'"),
        ({"processes": [2, 0]}, "processes must be a positive integer, not 0"),
        ({"processes": [17]}, "processes must be at most 16, not 17"),
        ({"processes": [1]}, "processes must name one number above 1"),
        ({"rounds": 0}, "rounds must be a positive integer, not 0"),
        ({"seconds": 0}, "seconds must be above 0 and below 3600, not 0"),
        ({"output": Path("x.png")}, "output must be a NAME.json, not 'x.png'"),
        ({"output": EXPERIMENTS / "results" / "accuracy.json"}, "is there already"),
    ],
)
def test_bad_input_measures_nothing(options, message, monkeypatch):
    monkeypatch.setattr(scaling, "run_processes", lambda *_: pytest.fail("it measures"))
    with pytest.raises((ValueError, FileExistsError), match=message):
        scaling.main(**options)


def test_rounds_take_turns_and_a_failure_is_kept(monkeypatch, tmp_path, capsys):
    asked = []

    def fake(processes, case, cache):
        asked.append((processes, case.get("net"), case.get("count", False)))
        return {"error": "no port"} if processes == 2 else {"environment": {}, "1": 0.1}

    monkeypatch.setattr(scaling, "run_processes", fake)
    rows = scaling.main(["dense"], [2], rounds=2, output=tmp_path / "new" / "x.json")
    first = [(1, "dense", False), (2, None, False), (2, "dense", True)]
    assert asked == [*first, first[0]]
    assert [row.get("error") for row in rows] == [None, "no port", "no port"]
    assert json.loads((tmp_path / "new" / "x.json").read_text())["rows"] == rows
    assert "round 1/2, all-reduce, 2 processes: no port" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_are_measured_and_more_derived(tmp_path):
    output = tmp_path / "x.json"
    command = [sys.executable, str(SCRIPT), "--nets", "strided", "--processes", "1", "2"]
    command += ["--rounds", "1", "--seconds", "0.1", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    alone, reduce, both = json.loads(output.read_text())["rows"]
    assert (alone["processes"], reduce["net"], both["processes"]) == (1, None, 2)
    assert both["batches"] == [32, 64]
    for size in ("32", "64"):
        report = both["reports"][0]
        # One gradient a parameter, the loss and the accuracy.
        assert report[size]["xla"]["bytes"] == 4 * report["params"] + 8
        assert report[size]["bytes"] >= report[size]["xla"]["bytes"]
        assert 0 < report[size]["reduce"]["fastest"] <= report[size]["reduce"]["seconds"]
    assert alone["reports"][0]["32"]["instructions"] == 0
    assert "| 4,096 | 131,072 | 1 | " in done.stdout
    assert "Where it breaks:" in done.stdout


@pytest.mark.slow
def test_the_reason_of_a_failed_process_is_kept(tmp_path):
    case = {"net": "lab5", "batches": [2], "seconds": 0.1}
    assert scaling.run_processes(1, case, str(tmp_path)) == {"error": "KeyError: 'lab5'"}
