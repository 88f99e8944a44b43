import dataclasses
from collections import Counter

import pytest

from experiments.benchmarks.recipes import EXPERIMENTS
from jaxconv import runs
from jaxconv.runs.config import Config, Training

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
