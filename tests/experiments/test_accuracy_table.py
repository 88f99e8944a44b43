import json

import pytest

from experiments import accuracy_table

pytestmark = pytest.mark.usefixtures("few_digits")


def test_the_accuracy_table_is_made_of_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "results" / "accuracy.json"
    accuracy_table.main(["dense"], 2, results)
    run = json.loads(results.read_text())["dense"]
    assert (run["seeds"], run["diverged"], run["steps"]) == ([0, 1], [], 15)
    values = run["test_accuracy_by_seed"]
    printed = capsys.readouterr().out
    line = f"| `dense` | 407,050 | 2 | {sum(values) / 2:.4f} ± "
    assert line in printed
    assert f" | {min(values):.4f} to {max(values):.4f} | " in printed

    results.write_text(json.dumps({"lab6": run, "dense": run}))
    accuracy_table.main(["dense"], 1, results)
    again = json.loads(results.read_text())
    assert [(net, run["seeds"]) for net, run in again.items()] == [("lab6", [0, 1]), ("dense", [0])]
    assert f"| `dense` | 407,050 | 1 | {values[0]:.4f} | " in capsys.readouterr().out


def test_a_seed_that_diverged_is_counted_in_the_table():
    run = {"seeds": [0, 1], "diverged": [1], "test_loss_by_seed": [0.5, None]}
    assert accuracy_table.figures(run, "test_loss_by_seed").n == 1
    assert accuracy_table.figures(run | {"diverged": [0, 1]}, "test_loss_by_seed") is None


def test_each_net_has_the_seeds_that_its_spread_needs():
    assert min(accuracy_table.NETS.values()) >= 5
    assert accuracy_table.NETS["strided"] == accuracy_table.NETS["dense"] == 10


def test_a_table_of_another_make_is_not_touched(tmp_path):
    results = tmp_path / "accuracy.json"
    results.write_text("[]")
    with pytest.raises(ValueError, match="has no entry a net, but a list: delete it"):
        accuracy_table.main(["dense"], 1, results)
    assert results.read_text() == "[]"
