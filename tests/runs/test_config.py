import dataclasses
from collections import Counter

import pytest

from experiments.benchmarks.recipes import EXPERIMENTS
from jaxconv import runs
from jaxconv.runs.config import MAX_SEEDS, Config, Training, parse_seeds

CONFIG = Config(Training(epochs=3, batch_size=64, learning_rate=1e-3))


@pytest.mark.parametrize("net", EXPERIMENTS)
def test_no_two_groups_share_a_name(net):
    config = EXPERIMENTS[net].CONFIG
    groups = [getattr(config, field.name) for field in dataclasses.fields(config)]
    names = Counter(field.name for group in groups for field in dataclasses.fields(group))
    assert set(names.values()) == {1}


def test_settings_are_replaced_by_name_in_whichever_group_they_are():
    found = CONFIG.replace(epochs=1, seed=7, quiet=True, workers=2)
    assert found.training == Training(epochs=1, batch_size=64, learning_rate=1e-3)
    assert (found.seeds.seed, found.run.quiet, found.parallel.workers) == (7, True, 2)
    assert CONFIG.training.epochs == 3
    with pytest.raises(ValueError, match=r"Unknown setting 'epoch' \(did you mean 'epochs'\?\)"):
        CONFIG.replace(epoch=1)


def test_an_experiment_adds_settings_of_its_net():
    strided, dense = EXPERIMENTS["strided"].CONFIG, EXPERIMENTS["dense"].CONFIG
    assert strided.replace(activation="relu").model.activation == "relu"
    assert isinstance(strided.model, runs.ConvModel)
    with pytest.raises(ValueError, match="Unknown setting 'padding'"):
        dense.replace(padding="same")


@pytest.mark.parametrize(
    ("text", "start", "seeds"),
    [
        ("3", 0, (0, 1, 2)),
        ("2", 5, (5, 6)),
        (" 3, 7 ", 0, (3, 7)),
        ("9,", 0, (9,)),
        ("0,", 0, (0,)),
    ],
)
def test_seeds_are_a_number_or_a_list(text, start, seeds):
    assert parse_seeds(text, start) == seeds


@pytest.mark.parametrize(
    ("text", "start", "message"),
    [
        ("", 0, "seeds must be a number of seeds such as 10, or a list"),
        ("ten", 0, "not 'ten'"),
        ("-3", 0, "not '-3'"),
        ("1.5", 0, "not '1.5'"),
        ("3,,4", 0, "not '3,,4'"),
        ("0", 0, "seeds must be 1 to 10000, not '0'"),
        (str(MAX_SEEDS + 1), 0, "seeds must be 1 to 10000"),
        ("3,7,3", 0, "has one twice"),
        ("4294967296,", 0, r"in \[0, 2\*\*32\), not 4294967296"),
        ("2", 2**32 - 1, r"in \[0, 2\*\*32\), not 4294967296"),
        ("3,7", 1, "seed 1 and the list of seeds '3,7' exclude each other"),
        ("²", 0, "not '²'"),
        ("7," + "1" * 5000, 0, "not a number of 5000 digits"),
    ],
)
def test_other_seeds_are_refused(text, start, message):
    with pytest.raises(ValueError, match=message):
        parse_seeds(text, start)
