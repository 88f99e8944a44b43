"""The settings that all experiments have in common, and what is wrong with them."""

import dataclasses
import inspect
import json
import math
import os
import shlex
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from jaxconv._checks import check_natural, check_positive
from jaxconv.runs import folder as run_folder
from jaxconv.runs.cli import DETERMINISTIC
from jaxconv.runs.seed_list import parse_seeds
from jaxconv.training.replicas import choose_strategy

OPERATIONAL = (
    "compilation_cache", "coordinator", "data_dir", "devices", "export_keras", "init_from", "keep",
    "output_dir", "overwrite", "process_id", "processes", "quiet", "resume", "save_every",
    "workers",
)  # fmt: skip
"""The settings that change nothing in a training; `init_from` does by the weights in it."""
JAX_OPTIONS = {
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_enable_x64": False,
    "jax_threefry_partitionable": True,
}
"""JAX' own options on which a training's random numbers and figures depend, and their defaults."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings that all experiments have in common."""

    epochs: int
    """Epochs to train."""
    batch_size: int
    """Samples a step; the last step of an epoch takes what is left."""
    learning_rate: float
    """Learning rate of the optimizer."""
    seed: int = 0
    """Seed of the root key: initial parameters, shuffles and dropout follow from it."""
    seeds: str | None = None
    """Train a replica for each of several seeds: how many, from --seed on, or a list, 3,7,11."""
    strategy: Literal["map", "vmap"] | None = None
    """How replicas run: map, in turn, or vmap, in each operation (the backend's own)."""
    group: int | None = None
    """The most replicas that one program trains (the backend's own number)."""
    dataset: str = "mnist"
    """"mnist", the bundled one, or "tfds:NAME", a set that TFDS has prepared on this disk."""
    data_dir: str | None = None
    """Where TFDS keeps its sets, if not in its own folder."""
    stream: bool = False
    """Leave the training samples of a tfds:NAME set on the disk, and read them as they come."""
    workers: int = 0
    """Processes that read the stream ahead (0: a thread)."""
    validation_split: float = 0.0
    """Share of the training samples, taken from the end, to validate on after each epoch."""
    save_every: int | Literal["epoch"] | None = None
    """Save a checkpoint after so many steps, or after each epoch: epoch; else when interrupted."""
    keep: int = 2
    """Checkpoints to keep, the newest."""
    resume: bool = False
    """Go on with the run that --output-dir holds, or the newest of this seed in runs/."""
    devices: int | None = None
    """Devices to divide each batch among (1; under a launcher all that each process has)."""
    processes: int | None = None
    """How many processes train together (as SLURM, Open MPI, Kubernetes or a TPU pod says; 1)."""
    process_id: int | None = None
    """Which of them this one is, from 0 (as they say)."""
    coordinator: str | None = None
    """Where the first of them listens, HOST:PORT (as they say)."""
    deterministic: bool = False
    """Ask XLA for deterministic operations on a GPU, where resumption is not exact without."""
    padding: int | str = "valid"
    """Padding of the convolutions: valid, same, or a number of zeros on each side."""
    init_from: str | None = None
    """Begin with the weights in a Keras file, NAME.weights.h5 or NAME.keras, not random ones."""
    export_keras: str | None = None
    """Write the trained weights for Keras as well, to NAME.weights.h5."""
    output_dir: str | None = None
    """The run's folder, if not the next free runs/EXPERIMENT-SEED-N (or -3seeds-N, of three)."""
    compilation_cache: bool = True
    """Keep compiled programs in the user's cache folder, and take them from there."""
    overwrite: bool = False
    """Replace the run that --output-dir holds, and the file that --export-keras names."""
    quiet: bool = False
    """Print nothing but the result."""


def seeds_of(config: Config) -> tuple[int, ...]:
    """The seeds that a run trains.

    Example:
      >>> seeds_of(Config(epochs=1, batch_size=64, learning_rate=0.001, seed=5, seeds="2"))
      (5, 6)
    """
    return (config.seed,) if config.seeds is None else parse_seeds(config.seeds, config.seed)


def training_settings(config: Config, name: str) -> dict[str, Any]:
    """What a training follows from, but for its data and weights: as JSON gives it back.

    Example:
      >>> settings = training_settings(Config(epochs=1, batch_size=64, learning_rate=0.001), "lab6")
      >>> settings["experiment"], "quiet" in settings
      ('lab6', False)
    """
    settings = {"experiment": name, **dataclasses.asdict(config)}
    for outward in OPERATIONAL:
        del settings[outward]
    if config.seeds is not None:
        del settings["strategy"], settings["group"]
        settings["program"] = "{} of {}".format(*choose_strategy(config.strategy, config.group))
    settings |= {option: str(getattr(jax.config, option, None)) for option in JAX_OPTIONS}
    return json.loads(json.dumps(settings))


def command(config: Config, name: str) -> str:
    """The command line that trains the same again; empty if the settings are of no script's own.

    Example:
      >>> command(Config(epochs=1, batch_size=64, learning_rate=0.001, seeds="3,7,"), "lab6")
      ''
    """
    if type(config) is Config:
        return ""
    try:
        path = Path(inspect.getfile(type(config))).resolve()
        script = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    except (OSError, TypeError):  # from no file
        script = f"{name}.py"
    changed = {x: getattr(jax.config, x, usual) for x, usual in JAX_OPTIONS.items()}
    changed = {x: value for x, value in changed.items() if value != JAX_OPTIONS[x]}
    words = [*(f"{x.upper()}={value}" for x, value in changed.items()), "python", script]
    for field in dataclasses.fields(config):
        value, option = getattr(config, field.name), field.name.replace("_", "-")
        asked = field.name not in OPERATIONAL or field.name in ("data_dir", "devices", "init_from")
        if asked and value != field.default:
            if isinstance(value, bool):
                words.append(f"--{option}" if value else f"--no-{option}")
            else:
                items = value if isinstance(value, list | tuple) else [value]
                words += [f"--{option}", *map(str, items)]
    return shlex.join(words)


def check(config: Config) -> None:
    """Refuses settings that make no sense, whatever the net and the data.

    Raises:
      ValueError: with the setting and what it may be.

    Example:
      >>> check(Config(epochs=0, batch_size=64, learning_rate=0.001))
      Traceback (most recent call last):
      ValueError: epochs must be a positive integer, not 0.
    """
    run_folder.check_output_dir(config.output_dir)
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
        raise ValueError("strategy and group are for several seeds: add --seeds 5, say.")
    seeds_of(config)
    choose_strategy(config.strategy, config.group)
    if config.overwrite and config.output_dir is None and config.export_keras is None:
        raise ValueError(
            "overwrite needs output_dir or export_keras: runs in runs/ never replace each other."
        )
