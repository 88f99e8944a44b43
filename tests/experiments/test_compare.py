import importlib
import json
import sys

import pytest

from experiments import compare
from jaxconv.measure.statistics import paired_t_test


def result(accuracies: list[float], losses: list[float], diverged=()) -> dict:
    return {
        "seeds": [3, 7, 11],
        "diverged": list(diverged),
        "test_accuracy_by_seed": accuracies,
        "test_loss_by_seed": losses,
    }


FIRST = result([0.90, 0.92, 0.94], [0.5, 0.25, 0.125])
SECOND = result([0.95, 0.94, 0.97], [0.25, 0.125, 0.125])


def test_pairs_are_of_the_same_seed():
    content = compare.differences(FIRST, SECOND)
    test = paired_t_test(FIRST["test_accuracy_by_seed"], SECOND["test_accuracy_by_seed"])
    assert content["test_accuracy_difference_mean"] == pytest.approx(0.1 / 3)
    assert content["test_accuracy_difference_low"] == test.difference.low
    assert content["test_accuracy_p"] == test.p
    assert content["test_loss_difference_mean"] == pytest.approx(-0.125)
    assert content["error_saved_share"] == pytest.approx(1 - 0.14 / 0.24)
    assert (content["seeds"], content["pairs"]) == ([3, 7, 11], 3)
    lines = compare.table(content).splitlines()
    assert lines[0] == "Test accuracy: 0.9200 ± 0.0200 first, 0.9533 ± 0.0153 second"
    assert lines[1].startswith(
        "  difference +0.0333 (95% interval -0.0046 to +0.0713); paired t-test p = 0.063"
    )
    assert lines[4].startswith("Error saved: 41.7% of the first's (95% interval ")


def test_a_seed_that_diverged_on_a_side_is_left_out_of_both():
    content = compare.differences(FIRST, {**SECOND, "diverged": [7]})
    assert (content["diverged"], content["pairs"]) == ([7], 2)
    assert content["first_test_accuracy_by_seed"] == [0.90, 0.94]
    assert "Left out, as a side diverged: seed 7" in compare.table(content)
    one = compare.table(
        compare.differences({**FIRST, "diverged": [3]}, {**SECOND, "diverged": [7]})
    )
    assert "difference +0.0300; no test: one pair" in one
    none = compare.differences({**FIRST, "diverged": [3, 11]}, {**SECOND, "diverged": [7]})
    assert none == {"seeds": [3, 7, 11], "diverged": [3, 7, 11], "pairs": 0}
    assert compare.table(none).startswith("Left out, as a side diverged: seeds 3, 7, 11\n0 pairs")


def test_equal_sides_differ_by_nothing():
    content = compare.differences(FIRST, FIRST)
    assert content["test_accuracy_p"] is None
    assert "difference +0.0000 (95% interval +0.0000 to +0.0000); no test" in compare.table(content)


@pytest.mark.usefixtures("few_digits")
def test_two_configurations_run_on_the_same_seeds(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "c"
    second = "dense --epochs 1 --learning-rate 0.01"
    content = compare.main("dense --epochs 1", second, "3,7", str(folder))
    assert json.loads((folder / "result.json").read_text()) == content
    for side, rate in (("first", 0.001), ("second", 0.01)):
        run = json.loads((folder / side / "result.json").read_text())
        config = json.loads((folder / side / "config.json").read_text())
        assert (run["seeds"], config["training"]["learning_rate"]) == ([3, 7], rate)
        assert content[f"{side}_test_loss_by_seed"] == run["test_loss_by_seed"]
    assert (folder / "differences.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "second: dense --epochs 1 --learning-rate 0.01, seeds 3, 7" in printed
    assert printed.endswith(f"Comparison: {folder}\n")
    with pytest.raises(FileExistsError, match="already holds a run"):
        compare.main("dense", "dense", "2", str(folder))

    # Another comparison in its place leaves nothing of it.
    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("experiments.dense"), "main", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare.main("dense", "dense", "2", str(folder), overwrite=True)
    assert {path.name for path in folder.rglob("*.*")} == {"config.json", ".lock"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lab5", "lab6"), "Unknown experiment 'lab5' .did you mean 'lab6'"),
        (("", "lab6"), "Unknown experiment ''"),
        (("lab6", "dense --seed 3"), "'dense --seed 3' sets --seed, which is not for a side"),
        (("lab6 --seeds 3", "dense"), "sets --seeds"),
        (("lab6", "dense --quiet"), "sets --quiet"),
        (("lab6", "dense", "1"), "seeds must be two or more to compare, not '1'"),
        (("lab6", "dense", "x"), "seeds must be a number of seeds"),
        (("lab6", "dense --epochs 0"), "epochs must be a positive integer, not 0"),
        (("lab6", "dense --learning-rate nan"), "learning_rate must be positive and finite"),
        (("lab6", "dense --group 0"), "group must be a positive integer"),
        (("lab6", "dense", "2", ""), "output_dir is empty"),
        (("lab6", "dense", "2", None, True), "overwrite needs output_dir"),
    ],
)
def test_bad_configurations_are_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        compare.main(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_is_refused_by_tyro(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["compare.py"])
    with pytest.raises(SystemExit) as stop:
        compare.configuration("strided --paddding same", "2")
    assert stop.value.code == 2
    assert "--padding" in capsys.readouterr().err


def test_pairs_show_both_settings_and_the_differences(drawn, tmp_path):
    sides = {"valid": [0.5, 0.75], "same": [0.625, 1.0]}
    compare.plot_pairs(sides, tmp_path / "x.png", ylabel="accuracy", title="a title")
    left, right = drawn[0].axes
    assert [list(line.get_ydata()) for line in left.lines] == [[0.5, 0.625], [0.75, 1.0]]
    assert [text.get_text() for text in left.get_xticklabels()] == ["valid", "same"]
    assert list(right.lines[1].get_ydata()) == [0.125, 0.25]
    assert right.lines[2].get_ydata()[0] == 0.1875
    assert right.get_ylabel() == "difference of accuracy"


def test_the_picture_is_a_png(tmp_path):
    sides = {"a": [1.0], "b": [2.0]}
    compare.plot_pairs(sides, tmp_path / "x.png", ylabel="y", title="one seed")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
