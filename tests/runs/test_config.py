import dataclasses

import pytest

from jaxconv.runs.config import (
    MAX_SEEDS,
    OPERATIONAL,
    Config,
    check,
    parse_seeds,
    seeds_of,
    training_settings,
)

CONFIG = Config(epochs=3, batch_size=64, learning_rate=1e-3)
OTHERS = {
    "epochs": 4, "batch_size": 32, "learning_rate": 0.1, "seed": 1, "seeds": "3", "dataset": "x",
    "validation_split": 0.5, "deterministic": True, "padding": "same", "stream": True,
}  # fmt: skip


def test_every_field_is_a_training_setting_or_operational():
    for field in dataclasses.fields(Config):
        if field.name in ("strategy", "group"):
            continue  # of several seeds, below
        assert (field.name in OTHERS) is not (field.name in OPERATIONAL), field.name


@pytest.mark.parametrize("name", OTHERS)
def test_a_setting_that_changes_the_training_changes_what_is_compared(name):
    changed = dataclasses.replace(CONFIG, **{name: OTHERS[name]})
    assert training_settings(changed, "dense") != training_settings(CONFIG, "dense")


def test_a_chosen_strategy_equals_the_same_default():
    several = dataclasses.replace(CONFIG, seeds="3")
    chosen = dataclasses.replace(several, strategy="vmap", group=2)
    same = dataclasses.replace(several, strategy="map", group=5)
    assert training_settings(several, "dense")["program"] == "map of 5"  # the CPU's own
    assert training_settings(several, "dense") == training_settings(same, "dense")
    assert training_settings(chosen, "dense")["program"] == "vmap of 2"


def test_deterministic_needs_its_flag_before_jax_starts(monkeypatch):
    config = dataclasses.replace(CONFIG, deterministic=True)
    with pytest.raises(ValueError, match="needs --xla_gpu_deterministic_ops=true in XLA_FLAGS"):
        check(config)
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    check(config)
    assert seeds_of(config) == (0,)


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
    ],
)
def test_other_seeds_are_refused(text, start, message):
    with pytest.raises(ValueError, match=message):
        parse_seeds(text, start)
