"""Checkpoints to restore from, in the tests of what a save keeps and of what damage does."""

from pathlib import Path

import jax

import jaxconv
from jaxconv.runs.checkpoint import Checkpoints
from tests.support.oracles import bits

MODEL, TX = jaxconv.create_model("dense", hidden=(16,)), jaxconv.adam()
SETTINGS = {"seed": 0, "rate": 0.1}


def new_state() -> jaxconv.TrainState:
    return jaxconv.create_train_state(MODEL, TX, jax.random.key(0), (28, 28, 1))


def save_two(folder: Path, split: jaxconv.Split) -> dict[int, str]:
    """Writes two checkpoints, of epochs 1 and 2 of 5 steps each, and returns their states' bits."""
    kept = {}
    with Checkpoints(folder, settings=SETTINGS, every="epoch") as saves:

        def save(state, resume_point):
            saves(state, resume_point)
            kept[resume_point.step] = bits(state)

        net = jaxconv.classifier(MODEL, TX)
        jaxconv.fit(net, new_state(), split, epochs=2, batch_size=64, save=save)
    return kept


def restored(folder, template, settings=SETTINGS):
    warnings = []
    with Checkpoints(folder, settings=settings, warn=warnings.append) as saves:
        found = saves.restore(template)
    return found, warnings
