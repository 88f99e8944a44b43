"""The folder of a run and its null twin; whole runs test the files."""

import inspect
import json

import pytest

from experiments import dense
from jaxconv.parallel import World
from jaxconv.runs import Plan
from jaxconv.runs.result import Outcome
from jaxconv.runs.resume import Found
from jaxconv.runs.run_folder import Elsewhere, RunFolder, open_folder

ROWS = [{"epoch": 1, "loss": 0.5, "accuracy": 0.75, "seconds": 1.0}]


def opened(tmp_path, found=None, **settings):
    config = dense.CONFIG.replace(output_dir=str(tmp_path / "a"), **settings)
    plan = Plan.of(dense.RECIPE, config)
    return open_folder(plan, config, {"data": "x"}, found, World.join(processes=1))


def methods(kind):
    return {
        name: inspect.signature(x)
        for name, x in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_the_null_twin_has_the_same_methods_and_does_nothing(tmp_path, monkeypatch):
    assert methods(Elsewhere) == methods(RunFolder)
    monkeypatch.chdir(tmp_path)
    nothing = Elsewhere()
    assert nothing.restore(lambda point: None) == []
    nothing.begin([])
    nothing.append([0], ROWS)
    nothing.write("x", lambda path: path.write_text("x"))
    nothing.finish({}, Outcome(None, [], {}), lambda path: path.write_text("x"), lambda: 1 / 0)
    assert list(tmp_path.iterdir()) == []


def test_rows_carry_their_seed_and_the_settings_stand_at_the_start(tmp_path):
    with opened(tmp_path, seeds="3,7") as folder:
        assert folder.restore(lambda point: None) == []
        folder.begin([])
        config = json.loads((tmp_path / "a" / "config.json").read_text())
        folder.append(range(1, 2), ROWS)
    assert (config["experiment"], config["seeds"]["seeds"]) == ("dense", "3,7")
    (row,) = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(row) == {"seed": 7, **ROWS[0]}


def test_on_resuming_the_rows_are_those_of_the_checkpoint(tmp_path):
    with opened(tmp_path) as folder:
        folder.begin([])
        for _ in range(3):
            folder.append([0], ROWS)
    found = Found(str(tmp_path / "a"), {"experiment": "dense"}, None, None)
    with opened(tmp_path, found) as folder:
        folder.begin([(0, ROWS[0])])
    assert len((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_file_is_written_once_and_its_failure_is_a_warning(tmp_path, capsys):
    with opened(tmp_path) as folder:
        folder.write("x.txt", lambda path: path.write_text("first"))
        folder.write("x.txt", lambda path: path.write_text("second"))
        folder.write("y.txt", lambda path: path.with_name("no") / "where" / "x" / 1)
    assert (tmp_path / "a" / "x.txt").read_text() == "first"
    assert "y.txt WAS NOT WRITTEN" in capsys.readouterr().err


def test_a_folder_that_is_taken_is_refused_before_anything_is_written(tmp_path):
    with opened(tmp_path) as folder:
        folder.begin([])
        with pytest.raises(BlockingIOError, match="in use by another run"), opened(tmp_path):
            pass
    with pytest.raises(FileExistsError, match="already holds a run"), opened(tmp_path):
        pass
