import dataclasses
import importlib
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
import tyro

from jaxconv.runs.config import OPERATIONAL, Config, check, command, seeds_of, training_settings
from jaxconv.runs.resume import fingerprints
from tests.support import ROOT

CONFIG = Config(epochs=3, batch_size=64, learning_rate=1e-3)
OTHERS = {
    "epochs": 4, "batch_size": 32, "learning_rate": 0.1, "seed": 1, "seeds": "3", "dataset": "x",
    "validation_split": 0.5, "deterministic": True, "padding": "same", "stream": True,
}  # fmt: skip


def test_every_setting_is_decisive_or_outward_on_purpose():
    for field in dataclasses.fields(Config):
        if field.name in ("strategy", "group"):
            continue  # of several seeds, below
        assert (field.name in OTHERS) is not (field.name in OPERATIONAL), field.name


@pytest.mark.parametrize("name", OTHERS)
def test_a_setting_that_changes_the_training_changes_what_is_compared(name):
    changed = dataclasses.replace(CONFIG, **{name: OTHERS[name]})
    assert training_settings(changed, "dense") != training_settings(CONFIG, "dense")


def test_a_strategy_counts_by_what_it_is_and_not_by_who_chose_it():
    several = dataclasses.replace(CONFIG, seeds="3")
    chosen = dataclasses.replace(several, strategy="vmap", group=2)
    same = dataclasses.replace(several, strategy="map", group=5)
    assert training_settings(several, "dense")["program"] == "map of 5"  # the CPU's own
    assert training_settings(several, "dense") == training_settings(same, "dense")
    assert training_settings(chosen, "dense")["program"] == "vmap of 2"


def test_data_and_weights_are_known_by_every_bit(digits):
    found = fingerprints(digits, None)
    assert found["initial_weights"] is None
    label = digits.train.label.copy()
    label[-1] = (label[-1] + 1) % 10
    other = dataclasses.replace(digits, train=dataclasses.replace(digits.train, label=label))
    assert fingerprints(other, None)["data"] != found["data"]
    assert fingerprints(digits.split_validation(0.5), None)["data"] != found["data"]
    weights = {"a": np.zeros(3, np.float32), "b": jax.numpy.ones(2)}
    first = fingerprints(digits, weights)["initial_weights"]
    weights["a"][2] = -0.0
    assert fingerprints(digits, weights)["initial_weights"] != first


def test_deterministic_needs_its_flag_before_jax_starts(monkeypatch):
    config = dataclasses.replace(CONFIG, deterministic=True)
    with pytest.raises(ValueError, match="needs --xla_gpu_deterministic_ops=true in XLA_FLAGS"):
        check(config)
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    check(config)
    assert seeds_of(config) == (0,)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"epochs": 3, "seed": 7, "learning_rate": 3e-4, "padding": "same", "activation": "relu"},
        {"seeds": "3,7,", "strategy": "vmap", "group": 2, "padding": 1},
        {"init_from": "my weights.keras", "data_dir": "a b", "dataset": "tfds:x", "batch_size": 1},
        {"deterministic": True, "validation_split": 0.1},
        {"output_dir": "a", "overwrite": True, "quiet": True, "compilation_cache": False},
    ],
)
def test_the_command_gives_the_settings_again(settings, monkeypatch):
    monkeypatch.chdir(ROOT)
    strided = importlib.import_module("experiments.strided")
    config = strided.Config(**settings)
    python, script, *words = shlex.split(command(config, "strided"))
    assert (python, script) == ("python", "experiments/strided.py")
    options = (tyro.conf.FlagCreatePairsOff,)
    again = tyro.cli(strided.Config, args=words, config=options)
    outward = {*OPERATIONAL} - {"data_dir", "init_from"}
    left_out = {name: getattr(again, name) for name in outward}
    assert again == dataclasses.replace(config, **left_out)
    assert bool(words) == bool({*settings} - outward)


@dataclasses.dataclass(frozen=True)
class Own(Config):
    """A user's."""

    epochs: int = 1
    batch_size: int = 2
    learning_rate: float = 0.5
    augment: bool = True
    filters: tuple[int, ...] = (8, 16)


@pytest.mark.parametrize("settings", [{}, {"augment": False}, {"filters": (4, 8, 12)}])
def test_the_command_has_settings_of_ones_own(settings, monkeypatch, tmp_path):
    monkeypatch.chdir(Path(__file__).parent)
    words = shlex.split(command(Own(**settings), "own"))
    assert words[:2] == ["python", "test_config.py"]
    monkeypatch.chdir(tmp_path)
    assert shlex.split(command(Own(**settings), "own"))[1] == str(Path(__file__).resolve())
    again = tyro.cli(Own, args=words[2:], config=(tyro.conf.FlagCreatePairsOff,))
    assert again == Own(**settings)


@pytest.mark.usefixtures("x64")
def test_the_command_sets_what_jax_was_set_to():
    assert command(Own(), "own").startswith("JAX_ENABLE_X64=True python ")
    assert command(CONFIG, "own") == ""  # no script's own settings


def test_the_command_of_a_config_from_no_file_has_the_experiments_name():
    made = dataclasses.make_dataclass("Made", [], bases=(Config,), frozen=True)
    made.__module__ = "nowhere"
    config = made(epochs=1, batch_size=2, learning_rate=0.5)
    assert command(config, "mine").startswith("python mine.py --epochs 1")
