"""`Config`, the settings that all experiments have in common, and their checks."""

import dataclasses
import json
import math
import os
from typing import Any, Literal

import jax
import numpy as np

from jaxconv._checks import check_natural, check_positive
from jaxconv.runs.cli import DETERMINISTIC
from jaxconv.runs.folder import check_output_dir
from jaxconv.training import choose_strategy

OPERATIONAL = (
    "compilation_cache", "coordinator", "data_dir", "devices", "export_keras", "init_from", "keep",
    "output_dir", "overwrite", "process_id", "processes", "quiet", "resume", "save_every",
    "workers",
)  # fmt: skip
"""Fields that do not affect the result. (Initial weights are fingerprinted separately.)"""
JAX_OPTIONS = {
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_enable_x64": False,
    "jax_threefry_partitionable": True,
}
"""The options of JAX that affect a training's random numbers and rounding, and their defaults."""
MAX_SEEDS = 10_000


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings that all experiments have in common."""

    epochs: int
    """The number of epochs to train."""
    batch_size: int
    """The number of samples in a step; the last step of an epoch takes the remainder."""
    learning_rate: float
    """The learning rate of the optimizer."""
    seed: int = 0
    """The seed of the root key, which decides the initial parameters, shuffles and dropout."""
    seeds: str | None = None
    """Train one replica for each seed: give their number, from --seed on, or a list, 3,7,11."""
    strategy: Literal["map", "vmap"] | None = None
    """How replicas run: map trains them one after the other, vmap joins them in every operation.
    Without it, the backend decides."""
    group: int | None = None
    """The most replicas that one program trains. Without it, the backend decides."""
    dataset: str = "mnist"
    """The data set: "mnist" is bundled, "tfds:NAME" is one that TFDS has prepared on this disk."""
    data_dir: str | None = None
    """The folder of the TFDS data sets, if TFDS does not use its own."""
    stream: bool = False
    """Read the training samples of a tfds:NAME set from the disk, not from memory."""
    workers: int = 0
    """The number of processes that read the stream ahead; 0 uses a thread."""
    validation_split: float = 0.0
    """The share of the training samples, taken from the end, on which each epoch is validated."""
    save_every: int | Literal["epoch"] | None = None
    """Save after so many steps, or after each epoch (epoch). An interrupted run always saves."""
    keep: int = 2
    """How many of the newest checkpoints to keep; at least 2 to survive a damaged one."""
    resume: bool = False
    """Resume the run in --output-dir, or else the newest run of this seed in runs/."""
    devices: int | None = None
    """The number of devices that share each batch (1; under a launcher, all of each process)."""
    processes: int | None = None
    """The number of processes that train together. Without it, SLURM, Open MPI, Kubernetes or a TPU
    pod gives the number, or it is 1."""
    process_id: int | None = None
    """The number of this process, from 0. Without it, the launcher gives the number."""
    coordinator: str | None = None
    """The address of the first process, HOST:PORT. Without it, the launcher gives the address."""
    deterministic: bool = False
    """Ask XLA for deterministic operations on a GPU, which make a resumed run exact there."""
    padding: int | str = "valid"
    """The padding of the convolutions: valid, same, or a number of zeros on each side."""
    init_from: str | None = None
    """Start from the weights in a Keras file, NAME.weights.h5 or NAME.keras, not random ones."""
    export_keras: str | None = None
    """Also write the trained weights for Keras, to NAME.weights.h5."""
    output_dir: str | None = None
    """The run's folder. Without it, the next free runs/EXPERIMENT-SEED-N (or -3seeds-N)."""
    compilation_cache: bool = True
    """Reuse compiled programs from the user's cache folder, and add new ones; on by default."""
    overwrite: bool = False
    """Replace the run in --output-dir and the file that --export-keras names."""
    quiet: bool = False
    """Print only the result."""


def seeds_of(config: Config) -> tuple[int, ...]:
    """Returns the seeds that a run trains.

    Example:
      >>> seeds_of(Config(epochs=1, batch_size=64, learning_rate=0.001, seed=5, seeds="2"))
      (5, 6)
    """
    return (config.seed,) if config.seeds is None else parse_seeds(config.seeds, config.seed)


def parse_seeds(text: str, start: int = 0) -> tuple[int, ...]:
    """Reads the seeds of a command line: their number, or a list of them.

    Args:
      text: a number such as `"10"`, or a list such as `"3,7,11"` or `"7,"`: a comma makes a list.
      start: the first of a number of seeds.

    Returns:
      The seeds, each once.

    Raises:
      ValueError: if the text is neither, asks for more than `MAX_SEEDS`, has a seed twice or one
        outside [0, 2**32), or if a list comes with a `start`.

    Example:
      >>> parse_seeds("3"), parse_seeds("3,7,11"), parse_seeds("7,")
      ((0, 1, 2), (3, 7, 11), (7,))
    """
    parts = text.strip().removesuffix(",").split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ValueError(
            f"seeds must be a number of seeds such as 10, or a list such as 3,7,11; not {text!r}."
        )
    given = tuple(map(int, parts))
    if "," in text:
        if start:
            raise ValueError(f"seed {start} and the list of seeds {text!r} exclude each other.")
        if len(set(given)) < len(given):
            raise ValueError(f"seeds {text!r} has one twice: every replica needs its own.")
    elif not 0 < given[0] <= MAX_SEEDS:
        raise ValueError(f"seeds must be 1 to {MAX_SEEDS}, not {text!r}.")
    else:
        given = tuple(range(start, start + given[0]))
    if max(given) >= 2**32:
        raise ValueError(f"seeds must be in [0, 2**32), not {max(given)}.")
    return given


def training_settings(config: Config, name: str) -> dict[str, Any]:
    """Returns the settings that determine a training, except its data and initial weights.

    A run resumes only with equal ones.

    Args:
      config: the settings.
      name: the experiment's name.

    Returns:
      The settings by name, as JSON reads them back.

    Example:
      >>> settings = training_settings(Config(epochs=1, batch_size=64, learning_rate=0.001), "lab6")
      >>> settings["experiment"], "quiet" in settings
      ('lab6', False)
    """
    settings = {"experiment": name, **dataclasses.asdict(config)}
    for field in OPERATIONAL:
        del settings[field]
    if config.seeds is not None:
        del settings["strategy"], settings["group"]
        settings["program"] = "{} of {}".format(*choose_strategy(config.strategy, config.group))
    settings |= {option: str(getattr(jax.config, option, None)) for option in JAX_OPTIONS}
    return json.loads(json.dumps(settings))


def check(config: Config) -> None:
    """Refuses settings that make no sense for any net and any data.

    Raises:
      ValueError: with the setting and its allowed values.

    Example:
      >>> check(Config(epochs=0, batch_size=64, learning_rate=0.001))
      Traceback (most recent call last):
      ValueError: epochs must be a positive integer, not 0.
    """
    check_output_dir(config.output_dir)
    check_positive("epochs", config.epochs)
    check_positive("batch_size", config.batch_size)
    check_positive("keep", config.keep)
    check_natural("workers", config.workers)
    if config.workers and not config.stream:
        raise ValueError("workers read a stream ahead: add --stream.")
    if config.stream and config.seeds is not None:
        raise ValueError(
            "A stream trains one seed, not several, which would each read it in another order: "
            "leave --stream or --seeds out."
        )
    if config.devices is not None:
        check_positive("devices", config.devices)
    if config.save_every is not None and config.save_every != "epoch":
        check_positive("save_every", config.save_every)
    if config.resume and config.overwrite and config.export_keras is None:
        raise ValueError("resume and overwrite exclude each other: resume keeps what is there.")
    if config.deterministic and DETERMINISTIC not in os.environ.get("XLA_FLAGS", ""):
        raise ValueError(
            f"deterministic needs {DETERMINISTIC} in XLA_FLAGS before JAX starts: set it there, "
            "as the command line does."
        )
    with np.errstate(over="ignore", under="ignore"):
        if not 0 < np.float32(config.learning_rate) < math.inf:
            raise ValueError(
                "learning_rate must be positive and finite in float32, not "
                f"{config.learning_rate!r}."
            )
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), not {config.seed!r}.")
    if config.seeds is not None and config.export_keras is not None:
        raise ValueError(
            f"export_keras writes the weights of one seed, not of seeds {config.seeds!r}: train "
            "that seed alone with --seed."
        )
    if config.seeds is None and (config.strategy, config.group) != (None, None):
        raise ValueError(
            "strategy and group are for several seeds: add --seeds, such as --seeds 5."
        )
    seeds_of(config)
    choose_strategy(config.strategy, config.group)
    if config.overwrite and config.output_dir is None and config.export_keras is None:
        raise ValueError(
            "overwrite needs output_dir or export_keras: runs in runs/ never replace each other."
        )
