import dataclasses

import jax
import numpy as np
import pytest

from jaxconv.config import OUTWARD, Config, check, decisive, fingerprints, seeds_of

CONFIG = Config(epochs=3, batch_size=64, learning_rate=1e-3)
OTHERS = {
    "epochs": 4, "batch_size": 32, "learning_rate": 0.1, "seed": 1, "seeds": "3", "dataset": "x",
    "validation_split": 0.5, "deterministic": True, "padding": "same",
}  # fmt: skip


def test_every_setting_is_decisive_or_outward_on_purpose():
    for field in dataclasses.fields(Config):
        if field.name in ("strategy", "group"):
            continue  # of several seeds, below
        assert (field.name in OTHERS) is not (field.name in OUTWARD), field.name


@pytest.mark.parametrize("name", OTHERS)
def test_a_setting_that_changes_the_training_changes_what_is_compared(name):
    changed = dataclasses.replace(CONFIG, **{name: OTHERS[name]})
    assert decisive(changed, "dense") != decisive(CONFIG, "dense")


def test_a_strategy_counts_by_what_it_is_and_not_by_who_chose_it():
    several = dataclasses.replace(CONFIG, seeds="3")
    chosen = dataclasses.replace(several, strategy="vmap", group=2)
    same = dataclasses.replace(several, strategy="map", group=5)
    assert decisive(several, "dense")["program"] == "map of 5"  # the CPU's own
    assert decisive(several, "dense") == decisive(same, "dense")
    assert decisive(chosen, "dense")["program"] == "vmap of 2"


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
