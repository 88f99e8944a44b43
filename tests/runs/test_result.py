import functools
import json
import math

import pytest

from jaxconv.runs.clock import Clock
from jaxconv.runs.result import (
    Outcome,
    diverged,
    figures_of,
    joint_row,
    seconds_of,
    summarise,
    summarize_figures,
)
from jaxconv.runs.result_lines import name_seeds, seed_table, statistics_lines

NAN = math.nan


def history(*losses: float) -> list[dict]:
    return [{"epoch": i, "loss": x, "accuracy": 1 - x} for i, x in enumerate(losses, start=1)]


def test_the_figures_are_of_the_last_epoch_and_the_test():
    tests = [{"loss": 0.5, "accuracy": 0.75}, {"loss": 0.25, "accuracy": 1.0}]
    figures = figures_of([history(1.0, 0.5), history(1.0, 0.25)], tests)
    assert figures["train_loss"] == [0.5, 0.25]
    assert figures["test_accuracy"] == [0.75, 1.0]
    assert figures["val_loss"] == figures["val_accuracy"] == [None, None]
    validated = [[{**row, "val_loss": 7.0} for row in history(0.5)]]
    assert figures_of(validated, tests[:1])["val_loss"] == [7.0]


def test_a_seed_that_diverged_is_named_and_in_no_mean():
    figures = {"train_loss": [0.5, NAN, 0.25], "test_accuracy": [0.75, 0.1, 1.0]}
    result = {"seeds": [3, 7, 11]}
    lost = [False, True, False]
    result |= summarize_figures([3, 7, 11], figures | {"test_loss": [1.0] * 3}, lost)
    assert result["diverged"] == [7]
    assert result["test_accuracy"] == 0.875
    assert result["test_accuracy_by_seed"] == [0.75, 0.1, 1.0]
    assert (result["test_accuracy_min"], result["test_accuracy_max"]) == (0.75, 1.0)
    lines = statistics_lines(result).splitlines()
    assert lines[0].startswith("Test loss: 1.0000 ± 0.0000 (1.0000 to 1.0000; 95% interval")
    assert lines[2:] == ["Mean ± std of 2 seeds", "Diverged, and left out: seed 7"]
    table = seed_table(result).splitlines()
    assert table[0] == "seed  train loss  test accuracy  test loss"
    assert table[2] == "   7         nan         0.1000     1.0000"


def test_one_seed_has_no_deviation_and_none_has_no_mean():
    figures = {"test_loss": [0.5], "test_accuracy": [0.75]}
    result = {"seeds": [3], **summarize_figures([3], figures, [False])}
    assert result["test_loss"] == 0.5
    assert result.keys().isdisjoint({"test_loss_std", "test_loss_low"})
    assert seed_table(result) == ""
    assert statistics_lines(result) == "Test loss: 0.5000\nTest accuracy: 0.7500"
    lost = {"seeds": [3], **summarize_figures([3], figures, [True])}
    assert (lost["test_loss"], lost["diverged"]) == (None, [3])
    assert statistics_lines(lost) == "Diverged, and left out: seed 3"


def test_a_seed_diverged_if_any_of_its_figures_did():
    tests = [{"loss": 0.5}, {"loss": 0.5}, {"loss": math.inf}]
    assert diverged([history(1.0, 0.5), history(NAN, 0.5), history(0.5)], tests) == [
        False,
        True,
        True,
    ]


def test_the_joint_row_is_of_those_that_did_not_diverge():
    rows = [{"loss": 0.5, "seconds": 1.0}, {"loss": NAN, "seconds": 1.0}]
    assert joint_row(rows) == {"loss": 0.5, "seconds": 2.0}
    assert math.isnan(joint_row(rows[1:])["loss"])


@pytest.mark.parametrize("seeds", [[7], [3, 7]])
def test_the_result_follows_from_its_arguments_alone(seeds):
    rows = [{"epoch": 1, "loss": 1.0, "accuracy": 0.5, "seconds": 2.0}]
    rows += [rows[0] | {"epoch": 2, "test_loss": 0.5, "test_accuracy": 0.75}]
    clock = Clock()
    clock.seconds |= {"data": 1.0, "fit": 5.0, "report": 0.25}
    before = seconds_of([rows[:1]] * len(seeds)) + 0.5
    make = functools.partial(summarise, name="dense", seeds=seeds, program=("map", 5))
    outcome = Outcome(None, [rows] * len(seeds), {})
    result = make(outcome, seconds_before=before, clock=clock, cache=None, facts={"devices": 1})
    assert json.loads(json.dumps(result)) == result
    assert (result["test_loss"], result["test_accuracy_by_seed"]) == (0.5, [0.75] * len(seeds))
    assert result["seconds_train"] == 4.0 * len(seeds)
    assert result["seconds_evaluation"] == 5.0 - (2.0 * len(seeds) - 0.5)
    assert (result["compilation_cache"], result["devices"], result["group"]) == ("off", 1, 5)
    assert ("seed" in result, "test_loss_std" in result) == (len(seeds) == 1, len(seeds) > 1)
    folder = make(outcome, seconds_before=before, clock=clock, cache="/cache", facts={})
    assert folder["compilation_cache"] == "cached"


def test_seeds_are_named_in_words():
    assert name_seeds([5]) == "seed 5"
    assert name_seeds([5, 6]) == "seeds 5, 6"
    assert name_seeds([5, 6, 7]) == "seeds 5 to 7"
    assert name_seeds([7, 6, 5]) == "seeds 7, 6, 5"
