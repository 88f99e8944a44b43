"""Every decision that follows from a run's settings; it touches neither device nor disk."""

import dataclasses
import json
import math
import os
from typing import Any

import jax
import numpy as np
import optax

from jaxconv._checks import check_choice, check_natural, check_positive
from jaxconv.data import check_dataset
from jaxconv.runs.cli import DETERMINISTIC
from jaxconv.runs.config import Config, Training
from jaxconv.runs.folder import check_output_dir
from jaxconv.runs.recipe import Recipe
from jaxconv.runs.result_lines import name_seeds
from jaxconv.runs.values import parse_image_size, parse_seeds
from jaxconv.training import (
    SCHEDULES,
    Strategy,
    average_weights,
    group_of,
    regularize,
    smoothed_crossentropy,
)

JAX_OPTIONS = (
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_enable_x64",
    "jax_threefry_partitionable",
)
"""The options of JAX that affect a training's random numbers and rounding."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run will do. One seed is a group of one.

    Example:
      >>> import jaxconv
      >>> recipe = Recipe("dense", jaxconv.create_model, jaxconv.adam, jaxconv.accuracy)
      >>> config = jaxconv.runs.Config(jaxconv.runs.Training(1, 64, 1e-3)).replace(seeds="3,7,11")
      >>> Plan.of(recipe, config).title
      'dense-3seeds'
    """

    name: str
    title: str
    """The name of the run's folder, without its number."""
    seeds: tuple[int, ...]
    strategy: Strategy | None
    """None where the backend decides."""
    group: int | None
    epochs: int
    batch_size: int
    save_every: int | None
    """The steps after which a chunk ends, so that a checkpoint can be saved."""
    validate_on_test: bool
    check_finite: bool
    """Whether a loss that is not finite ends the run; of several seeds the others go on."""
    grows: bool
    """Whether a resumed run may have more epochs: a schedule's shape follows from its end."""
    settings: dict[str, Any]
    """What a resumed run must have equal, by name, as JSON has it."""

    @classmethod
    def of(cls, recipe: Recipe, config: Config) -> "Plan":
        """Checks the settings, and decides.

        Args:
          recipe: the experiment.
          config: its settings.

        Raises:
          ValueError: if a setting makes no sense for any net and any data; with its allowed values.
        """
        _check(config)
        own = config.seeds
        seeds = (own.seed,) if own.seeds is None else parse_seeds(own.seeds, own.seed)
        if len(seeds) > 1 and config.data.stream:
            raise ValueError(
                "A stream trains one seed, not several, which would each read it in another order: "
                "leave --stream or --seeds out."
            )
        if len(seeds) > 1 and config.run.export_keras is not None:
            raise ValueError(
                f"export_keras writes the weights of one seed, not of seeds {own.seeds!r}: train "
                "that seed alone with --seed."
            )
        settings = {"experiment": recipe.name}
        groups = (
            config.training,
            config.seeds,
            config.data,
            config.augmentation,
            config.model,
        )
        settings |= {name: x for group in groups for name, x in dataclasses.asdict(group).items()}
        settings |= {option: str(getattr(jax.config, option, None)) for option in JAX_OPTIONS}
        every = config.run.save_every
        return cls(
            name=recipe.name,
            title=f"{recipe.name}-{seeds[0] if len(seeds) == 1 else f'{len(seeds)}seeds'}",
            seeds=seeds,
            strategy=own.strategy,
            group=group_of(own.group, config.training.early_stopping),
            epochs=config.training.epochs,
            batch_size=config.training.batch_size,
            save_every=None if every == "epoch" else every,
            validate_on_test=recipe.validate_on_test,
            check_finite=len(seeds) == 1,
            grows=config.training.schedule == "constant",
            settings=json.loads(json.dumps(settings)),
        )

    def label(self, members: range) -> str:
        """The seeds of a group, before its line of progress; nothing for a run of one seed."""
        if len(self.seeds) == 1:
            return ""
        return f"{name_seeds([self.seeds[i] for i in members])}: "


def _check(config: Config) -> None:
    """Refuses settings that make no sense, whatever the experiment."""
    training, own, run, parallel = config.training, config.seeds, config.run, config.parallel
    check_output_dir(run.output_dir)
    check_dataset(
        config.data.dataset,
        data_dir=run.data_dir,
        image_size=parse_image_size(config.data.image_size),
        test_split=config.data.test_split,
    )
    check_positive("epochs", training.epochs)
    check_positive("batch_size", training.batch_size)
    check_positive("keep", run.keep)
    check_natural("workers", parallel.workers)
    if parallel.workers and not config.data.stream:
        raise ValueError("workers read a stream ahead: add --stream.")
    if parallel.devices is not None:
        check_positive("devices", parallel.devices)
    if run.save_every is not None and run.save_every != "epoch":
        check_positive("save_every", run.save_every)
    if run.resume and run.overwrite and run.export_keras is None:
        raise ValueError("resume and overwrite exclude each other: resume keeps what is there.")
    if parallel.deterministic and DETERMINISTIC not in os.environ.get("XLA_FLAGS", ""):
        raise ValueError(
            f"deterministic needs {DETERMINISTIC} in XLA_FLAGS before JAX starts: set it there, "
            "as the command line does."
        )
    config.augmentation.function()
    _check_training(training, config.data.validation_split)
    if run.target_accuracy is not None and not 0 < run.target_accuracy <= 1:
        raise ValueError(f"target_accuracy must be in (0, 1], not {run.target_accuracy!r}.")
    if not 0 <= own.seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), not {own.seed!r}.")
    if own.seeds is None and (own.strategy, own.group) != (None, None):
        raise ValueError(
            "strategy and group are for several seeds: add --seeds, such as --seeds 5."
        )
    if own.strategy is not None:
        check_choice("strategy", own.strategy, ("map", "vmap"))
    if own.group is not None:
        check_positive("group", own.group)
    if run.overwrite and run.output_dir is None and run.export_keras is None:
        raise ValueError(
            "overwrite needs output_dir or export_keras: runs in runs/ never replace each other."
        )


def _check_training(training: Training, validation_split: float) -> None:
    """Refuses numbers out of their range, and a choice among epochs on the test set."""
    with np.errstate(over="ignore", under="ignore"):
        if not 0 < np.float32(training.learning_rate) < math.inf:
            raise ValueError(
                "learning_rate must be positive and finite in float32, not "
                f"{training.learning_rate!r}."
            )
    check_choice("schedule", training.schedule, SCHEDULES)
    smoothed_crossentropy(training.label_smoothing)
    regularize(
        optax.identity(),
        training.learning_rate,
        weight_decay=training.weight_decay,
        global_clipnorm=training.global_clipnorm,
    )
    for name in ("early_stopping", "restore_best"):
        if getattr(training, name) not in (None, False) and not validation_split:
            raise ValueError(
                f"{name} needs validation samples that were held out of the training set: add "
                "--validation-split, such as 0.1. What the test set decided, it could not measure."
            )
    if training.early_stopping is not None:
        check_positive("early_stopping", training.early_stopping)
    if training.ema_momentum is not None:
        average_weights(optax.identity(), training.ema_momentum)
