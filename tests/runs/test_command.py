import dataclasses
import importlib
import shlex
from pathlib import Path

import pytest
import tyro

from jaxconv.runs._command import command
from jaxconv.runs.config import OPERATIONAL, Config
from tests.support import ROOT


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
def test_the_command_repeats_the_settings(settings, monkeypatch):
    monkeypatch.chdir(ROOT)
    strided = importlib.import_module("experiments.strided")
    config = strided.Config(**settings)
    python, script, *words = shlex.split(command(config, "strided"))
    assert (python, script) == ("python", "experiments/strided.py")
    options = (tyro.conf.FlagCreatePairsOff,)
    again = tyro.cli(strided.Config, args=words, config=options)
    operational = {*OPERATIONAL} - {"data_dir", "init_from"}
    left_out = {name: getattr(again, name) for name in operational}
    assert again == dataclasses.replace(config, **left_out)
    assert bool(words) == bool({*settings} - operational)


@dataclasses.dataclass(frozen=True)
class Own(Config):
    """The settings of a user's own script."""

    epochs: int = 1
    batch_size: int = 2
    learning_rate: float = 0.5
    augment: bool = True
    filters: tuple[int, ...] = (8, 16)


@pytest.mark.parametrize("settings", [{}, {"augment": False}, {"filters": (4, 8, 12)}])
def test_the_command_has_a_users_own_settings(settings, monkeypatch, tmp_path):
    monkeypatch.chdir(Path(__file__).parent)
    words = shlex.split(command(Own(**settings), "own"))
    assert words[:2] == ["python", "test_command.py"]
    monkeypatch.chdir(tmp_path)
    assert shlex.split(command(Own(**settings), "own"))[1] == str(Path(__file__).resolve())
    again = tyro.cli(Own, args=words[2:], config=(tyro.conf.FlagCreatePairsOff,))
    assert again == Own(**settings)


@pytest.mark.usefixtures("x64")
def test_the_command_sets_the_options_of_jax():
    assert command(Own(), "own").startswith("JAX_ENABLE_X64=True python ")
    plain = Config(epochs=1, batch_size=2, learning_rate=0.5)  # no script's own settings
    assert command(plain, "own") == ""


def test_the_command_of_a_class_from_no_file_has_the_experiments_name():
    made = dataclasses.make_dataclass("Made", [], bases=(Config,), frozen=True)
    made.__module__ = "nowhere"
    config = made(epochs=1, batch_size=2, learning_rate=0.5)
    assert command(config, "mine").startswith("python mine.py --epochs 1")
