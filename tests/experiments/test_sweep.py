import importlib
import json
import math

import pytest

import jaxconv
from experiments import sweep
from tests.support.run_folders import read_rows


@pytest.fixture
def small(monkeypatch, digits):
    monkeypatch.setattr(sweep.jaxconv, "load_dataset", lambda *_, **__: digits)


@pytest.mark.usefixtures("small", "few_digits")
def test_a_schedule_moves_every_rate_as_a_run_moves_it(tmp_path):
    config = sweep.Config(
        "dense", (0.01, 0.001), "onecycle", "3,", epochs=2, output_dir=str(tmp_path / "s")
    )
    result = sweep.main(config)
    dense = importlib.import_module("experiments.dense")
    given = {"epochs": 2, "seed": 3, "schedule": "onecycle", "learning_rate": 0.001}
    alone = dense.main(dense.CONFIG.replace(**given, output_dir=str(tmp_path / "a")))
    (last,) = (
        row
        for row in read_rows(tmp_path / "s")
        if row["learning_rate"] == 0.001 and row["epoch"] == 2
    )
    assert last["loss"] == pytest.approx(alone["train_loss"], rel=1e-5)
    assert last["test_loss"] == pytest.approx(alone["test_loss"], rel=1e-5)
    assert result["schedule"] == "onecycle"


@pytest.mark.usefixtures("small", "few_digits")
@pytest.mark.slow
def test_the_grid_is_trained_and_what_diverges_harms_no_other(tmp_path, capsys):
    rates = (0.001, 1e30, 0.01)
    config = sweep.Config("dense", rates, seeds="3,7", epochs=2, output_dir=str(tmp_path / "s"))
    result = sweep.main(config)
    assert json.loads((tmp_path / "s" / "result.json").read_text()) == {
        **result,
        "learning_rates": list(rates),
    }
    assert result["diverged"] == [0, 2, 0]
    assert (result["test_accuracy_mean"][1], result["test_accuracy_low"][1]) == (None, None)
    dense = importlib.import_module("experiments.dense")
    for i, rate in enumerate(rates):
        if rate > 1:
            continue
        folder = str(tmp_path / str(rate))
        alone = dense.main(
            dense.CONFIG.replace(epochs=2, seeds="3,7", learning_rate=rate, output_dir=folder)
        )
        for field in ("", "_min", "_max"):
            mine = result[f"test_accuracy{field or '_mean'}"][i]
            assert mine == pytest.approx(alone[f"test_accuracy{field}"], abs=1e-6)

    rows = read_rows(tmp_path / "s")
    assert len(rows) == 12
    assert {(row["learning_rate"], row["seed"]) for row in rows} == {
        (rate, seed) for rate in rates for seed in (3, 7)
    }
    assert all(
        row["loss"] is None for row in rows if row["learning_rate"] == 1e30 and row["epoch"] == 2
    )
    printed = capsys.readouterr().out
    assert "| 1e+30 |  |  | 2 of 2 |" in printed
    assert "dense: 3 learning rates, seeds 3, 7, 2 epochs" in printed
    assert (tmp_path / "s" / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_has_a_line_for_each_learning_rate():
    lines = sweep.table({0.001: [0.5, 0.75], 0.1: [0.5, math.nan]}).splitlines()
    assert lines[2] == "| 0.001 | 0.6250 ± 0.1768 | 0.5000 to 0.7500 |  |"
    assert lines[3] == "| 0.1 | 0.5000 | 0.5000 to 0.5000 | 1 of 2 |"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"learning_rates": ()},
            r"learning_rates must be positive, finite and different in float32, not \(\)",
        ),
        ({"learning_rates": (0.1, 0.1)}, "different"),
        ({"learning_rates": (0.1, -1.0)}, "positive"),
        ({"learning_rates": (math.inf,)}, "finite"),
        ({"learning_rates": (1e-50,)}, "in float32, not .1e-50"),
        ({"learning_rates": (1e39,)}, "finite"),
        ({"learning_rates": (0.1, 0.1000000001)}, "different in float32"),
        ({"overwrite": True}, "overwrite needs output_dir"),
        ({"output_dir": ""}, "output_dir is empty"),
        ({"epochs": 0}, "epochs must be a positive integer, not 0"),
        ({"seeds": "none"}, "seeds must be a number of seeds"),
        ({"group": 0}, "group must be a positive integer, not 0"),
    ],
)
def test_bad_settings_are_refused(change, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        sweep.main(sweep.Config(**change))
    assert list(tmp_path.iterdir()) == []


def test_the_nets_are_those_of_the_notebooks():
    nets = sweep.Config.__dataclass_fields__["net"].type
    assert set(nets.__args__) == set(jaxconv.models.ARCHITECTURES)


def test_a_sweep_shows_means_seeds_and_where_they_diverged(drawn, tmp_path):
    groups = {0.1: [0.9, 0.95], 0.001: [0.75, 0.25], 10.0: [0.5, math.nan], 100.0: [math.nan] * 2}
    sweep.plot_sweep(groups, tmp_path / "x.png", xlabel="rate", ylabel="accuracy", title="a title")
    (axes,) = drawn[0].axes
    assert list(axes.lines[0].get_xdata()) == [0.001, 0.1, 10.0]
    assert list(axes.lines[0].get_ydata()) == pytest.approx([0.5, 0.925, 0.5])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["mean, min to max", "one seed", "diverged"]
    (band,) = axes.collections
    corners = band.get_paths()[0].vertices
    reach = {x: [y for at, y in corners if at == x] for x in (0.001, 0.1, 10.0)}
    found = {x: (min(heights), max(heights)) for x, heights in reach.items()}
    assert found == {0.001: (0.25, 0.75), 0.1: (0.9, 0.95), 10.0: (0.5, 0.5)}
    assert list(axes.lines[2].get_xdata()) == [10.0, 100.0]
    assert [text.get_text() for text in axes.texts] == ["1 of 2", "2 of 2"]
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "rate", "accuracy")


def test_the_picture_is_a_png(tmp_path):
    path = tmp_path / "x.png"
    sweep.plot_sweep({1.0: [math.nan]}, path, xlabel="x", ylabel="y", title="none")
    assert path.read_bytes().startswith(b"\x89PNG")
