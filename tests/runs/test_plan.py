"""A plan is made of the settings alone: no device, no disk, microseconds."""

import os
import subprocess
import sys

import pytest

from experiments import dense, lab6, strided
from jaxconv.runs import Plan

HUGE = 10**30


def plan(module=lab6, **settings) -> Plan:
    return Plan.of(module.RECIPE, module.CONFIG.replace(**settings))


REFUSED = [
    ({"epochs": 0}, "epochs must be a positive integer, not 0"),
    ({"epochs": -3}, "epochs must be a positive integer, not -3"),
    ({"batch_size": 0}, "batch_size must be a positive integer, not 0"),
    ({"batch_size": True}, "batch_size must be a positive integer, not True"),
    ({"learning_rate": 0.0}, "learning_rate must be positive and finite in float32, not 0.0"),
    ({"learning_rate": -1.0}, "learning_rate must be positive and finite in float32, not -1.0"),
    ({"learning_rate": float("nan")}, "positive and finite in float32, not nan"),
    ({"learning_rate": float("inf")}, "positive and finite in float32, not inf"),
    ({"learning_rate": 1e300}, "positive and finite in float32, not 1e"),
    ({"learning_rate": 1e-300}, "positive and finite in float32, not 1e-300"),
    ({"schedule": "cosin"}, r"Unknown schedule 'cosin' \(did you mean 'cosine'\?\)"),
    ({"weight_decay": -0.1}, "weight_decay must be 0 or a positive number, not -0.1"),
    ({"global_clipnorm": 0.0}, "global_clipnorm must be a positive number, not 0.0"),
    ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), not 1.0"),
    ({"ema_momentum": 1.0}, r"ema_momentum must be in \[0, 1\), not 1.0"),
    ({"early_stopping": 0, "validation_split": 0.1}, "early_stopping must be a positive integer"),
    (
        {"early_stopping": 2, "validation_split": 0.1, "seeds": "4", "group": 2},
        "each replica ends at its own epoch: group must be 1, not 2",
    ),
    ({"zoom": 2.0}, r"zoom must be in \[0, 0.9\], not 2.0"),
    ({"erase": -1}, "erase must be a positive integer or 0, not -1"),
    ({"target_accuracy": 97.0}, r"target_accuracy must be in \(0, 1\], not 97.0"),
    ({"seed": -1}, r"seed must be in \[0, 2\*\*32\), not -1"),
    ({"seed": HUGE}, rf"seed must be in \[0, 2\*\*32\), not {HUGE}"),
    ({"seeds": "0"}, "seeds must be 1 to 10000, not '0'"),
    ({"seeds": str(HUGE)}, "seeds must be 1 to 10000, not '1000"),
    ({"seeds": ""}, "a number of seeds such as 10, or a list such as 3,7,11; not ''"),
    ({"seeds": "3,3"}, "has one twice"),
    ({"seeds": f"3,{HUGE}"}, r"seeds must be in \[0, 2\*\*32\)"),
    ({"seeds": "3,4", "seed": 2}, "exclude each other"),
    ({"seeds": "2", "export_keras": "x.weights.h5"}, "the weights of one seed"),
    ({"seeds": "2", "group": 0}, "group must be a positive integer, not 0"),
    ({"seeds": "2", "strategy": "pmap"}, "Unknown strategy 'pmap'"),
    ({"seeds": "2", "stream": True}, "A stream trains one seed, not several"),
    ({"strategy": "vmap"}, "strategy and group are for several seeds: add --seeds"),
    ({"workers": 2}, "workers read a stream ahead: add --stream"),
    ({"workers": -1, "stream": True}, "workers must be a positive integer or 0, not -1"),
    ({"devices": 0}, "devices must be a positive integer, not 0"),
    ({"save_every": 0}, "save_every must be a positive integer, not 0"),
    ({"save_every": -2}, "save_every must be a positive integer, not -2"),
    ({"keep": 0}, "keep must be a positive integer, not 0"),
    ({"resume": True, "overwrite": True, "output_dir": "x"}, "exclude each other: resume keeps"),
    ({"output_dir": ""}, "output_dir is empty"),
    ({"image_size": "64"}, r"image_size=\(64, 64\) is for 'folder:DIR', whose pictures it resizes"),
    ({"image_size": ""}, "image_size is a side such as 64, or HEIGHT,WIDTH; not ''"),
    ({"image_size": "1,2,3"}, "or HEIGHT,WIDTH; not '1,2,3'"),
    ({"dataset": "folder:x", "image_size": "0,9"}, "image_size must be a positive integer, not 0"),
    ({"dataset": "folder:x", "image_size": str(HUGE)}, f"must be at most 4096, not {HUGE}"),
    (
        {"dataset": "idx:x", "test_split": 0.2},
        "test_split=0.2 is for 'folder:DIR', .* not for",
    ),
    (
        {"dataset": "tfds:x", "test_split": 0.2, "stream": True},
        "test_split=0.2 is for 'folder",
    ),
    ({"dataset": "folder:x", "test_split": 1.0}, r"test_split must be in \(0, 1\), not 1.0"),
    (
        {"dataset": "npz:x", "data_dir": "y"},
        "data_dir='y' is for 'tfds:NAME', where TFDS",
    ),
    ({"dataset": "npz:"}, r"Unknown data set 'npz:' \(did you mean 'npz:FILE'\?\)"),
    ({"dataset": "mnist:x"}, "Unknown data set 'mnist:x'"),
    ({"overwrite": True}, "overwrite needs output_dir or export_keras"),
    ({"deterministic": True}, "needs --xla_gpu_deterministic_ops=true in XLA_FLAGS"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=str)
@pytest.mark.usefixtures("untyped")
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        plan(**settings)


def test_a_plan_asks_for_no_device():
    """A platform that is not there would end any process that asks for it."""
    program = (
        "from experiments import lab6; from jaxconv.runs import Plan\n"
        "print(Plan.of(lab6.RECIPE, lab6.CONFIG).title)\n"
        "Plan.of(lab6.RECIPE, lab6.CONFIG.replace(epochs=0))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "JAX_PLATFORMS": "nonsense"},
        capture_output=True,
        text=True,
    )
    assert run.stdout == "lab6-0\n"
    assert run.stderr.endswith("ValueError: epochs must be a positive integer, not 0.\n")


def test_one_seed_is_a_group_of_one():
    assert (plan(seeds="7,").title, plan(seeds="7,").seeds) == ("lab6-7", (7,))
    assert (plan(seed=7).title, plan(seed=7).label(range(1))) == ("lab6-7", "")
    several = plan(seeds="3,7,11", strategy="vmap", group=2)
    assert (several.title, several.seeds) == ("lab6-3seeds", (3, 7, 11))
    assert several.label(range(1, 3)) == "seeds 7, 11: "
    assert (plan(seed=7).check_finite, several.check_finite) == (True, False)


DECIDING = {
    "epochs": 4, "batch_size": 16, "learning_rate": 0.1, "seed": 1, "seeds": "3",
    "rotation": 1.0, "zoom": 0.1, "shear": 1.0, "shift": 1.0, "elastic": 1.0, "erase": 2,
    "schedule": "cosine", "weight_decay": 0.1, "global_clipnorm": 1.0, "label_smoothing": 0.1,
    "ema_momentum": 0.9, "batch_norm": True, "global_pool": True,
    "dataset": "folder:x", "image_size": "8", "test_split": 0.5,
    "validation_split": 0.5, "padding": "same", "stream": True, "activation": "relu",
}  # fmt: skip


@pytest.mark.parametrize("name", DECIDING)
def test_a_setting_that_changes_the_training_changes_what_is_compared(name):
    settings = {"dataset": "folder:y"}
    changed = plan(strided, **(settings | {name: DECIDING[name]}))
    assert changed.settings != plan(strided, **settings).settings


@pytest.mark.parametrize("setting", [{"early_stopping": 2}, {"restore_best": True}])
def test_what_decides_by_the_validation_changes_what_is_compared(setting):
    own = {"validation_split": 0.1}
    assert plan(**own, **setting).settings != plan(**own).settings


def test_where_and_on_what_a_run_runs_does_not_count():
    other = plan(quiet=True, output_dir="x", save_every=3, devices=2, keep=5, init_from="x.keras")
    assert other.settings == plan().settings
    assert plan().settings != plan(dense).settings


def test_saves_by_epoch_end_no_chunk():
    assert plan(save_every="epoch").save_every is None
    assert plan(save_every=50).save_every == 50


def test_deterministic_needs_its_flag_before_jax_starts(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    assert plan(deterministic=True).settings == plan().settings
