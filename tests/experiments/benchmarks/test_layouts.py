import json

import numpy as np
import pytest

from experiments.benchmarks import layouts


def test_the_largest_difference_of_each_kind_is_taken():
    first = {"float32 a": np.zeros(2), "float32 b": np.zeros(0), "float64 a": np.ones(1)}
    other = {"float32 a": np.array([0.5, -2]), "float32 b": np.zeros(0), "float64 a": np.ones(1)}
    assert layouts.max_differences(first, other) == {"float32": 2.0, "float64": 0.0}


def test_what_is_no_layout_is_refused(tmp_path):
    for layout in ("2", "0x2", "axb"):
        with pytest.raises(ValueError, match=f"PROCESSESxDEVICES, such as 2x2, not '{layout}'"):
            layouts.main(layouts=[layout], output=tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(FileExistsError, match="name another --output"):
        layouts.main(output=tmp_path / "x.json")


@pytest.mark.slow
def test_a_script_that_fails_is_shown():
    with pytest.raises(RuntimeError, match="KeyError: 'lab5'"):
        layouts.run_layout("1x1", "layout_steps.py", "lab5", "a.npz", "b.npz")


@pytest.mark.slow
def test_every_layout_takes_the_same_steps(tmp_path, capsys):
    """With dropout, shuffles, and a batch that divides among no number of devices."""
    path = tmp_path / "x.json"
    some = ["1x3", "2x2"]
    rows = layouts.main(nets=["dropout"], full=None, layouts=some, output=path)
    assert [row["layout"] for row in rows] == some
    for row in rows:
        assert row["float32"] <= 1e-6, row
        assert row["float64"] <= 1e-9, row
    assert rows[-1]["float32"] > 0  # they are not the same program
    assert json.loads(path.read_text())["rows"] == rows
    assert "| dropout | 2 × 2 |" in capsys.readouterr().out
