"""What every experiment shares: data, model, fit, evaluation, and the files in the run's folder."""

import dataclasses
import functools
import importlib.util
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import optax
from flax import linen as nn

from jaxconv import keras, run_folder
from jaxconv.checks import check_positive
from jaxconv.command_line import cli as cli
from jaxconv.compilation_cache import cache_unless
from jaxconv.data import load_dataset
from jaxconv.evaluation import Row, evaluate
from jaxconv.loop import fit, train_epoch
from jaxconv.losses import Loss
from jaxconv.machine import environment, process_seconds
from jaxconv.plots import plot_history
from jaxconv.progress import Progress
from jaxconv.results import (
    diverged,
    figures_of,
    joint_row,
    seed_table,
    spread_figures,
    spread_lines,
)
from jaxconv.seed_list import name_seeds, parse_seeds
from jaxconv.seed_plots import plot_seeds
from jaxconv.seeds import choose_strategy, fit_seeds
from jaxconv.tabulate import summary
from jaxconv.timing import CompileWatch, Stopwatch
from jaxconv.train import TrainState, create_train_state, make_eval_step, make_train_step

_SECONDS_IMPORT = process_seconds()


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
    validation_split: float = 0.0
    """Share of the training samples, taken from the end, to validate on after each epoch."""
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


def run(
    config: Config,
    *,
    name: str,
    model: Callable[[int], nn.Module],
    tx: Callable[[float], optax.GradientTransformation],
    loss: Loss,
    validate_on_test: bool = False,
) -> dict[str, Any]:
    """Trains and evaluates one net, and writes the run's folder.

    The folder gets `config.json` at the start, a line of `metrics.jsonl` after each epoch, and
    `result.json` and `curves.png` at the end.

    Args:
      config: the settings.
      name: the experiment's name.
      model: makes the model for a number of classes.
      tx: makes the optimizer for a learning rate.
      loss: `(logits, labels) -> [N]`, for integer labels.
      validate_on_test: validate on the test set, as notebook 000 does, unless
        `config.validation_split` asks for a part of the training set.

    Returns:
      What `result.json` holds.

    Raises:
      ValueError: for a setting or data set that makes no sense. Nothing is written then.
      FileExistsError: if the named folder holds a run, or the file to export to is there, and
        `overwrite` is False.
      FileNotFoundError: if there is no file `init_from`.
      OSError: if `export_keras` cannot be written. Found at the end, the weights are kept in the
        run's folder.
    """
    began = time.perf_counter()
    check(config)
    several, seeds = config.seeds is not None, _seeds(config)
    strategy, group = choose_strategy(config.strategy, config.group)
    say = (lambda *_: None) if config.quiet else print
    with Stopwatch() as data_watch:
        data = load_dataset(config.dataset, data_dir=config.data_dir)
        data = data.split_validation(config.validation_split)
    with cache_unless(not config.compilation_cache) as cache, CompileWatch() as programs:
        net, optimizer = model(data.num_classes), tx(config.learning_rate)
        train_step = make_train_step(net, optimizer, loss=loss)
        eval_step = make_eval_step(net, loss=loss)
        facts, shape = environment(), data.input_shape
        if config.export_keras is not None:
            keras.check_save(config.export_keras, net, shape, overwrite=config.overwrite)
        with Stopwatch() as init_watch:
            params = None
            if config.init_from is not None:
                params = keras.load_weights(config.init_from, net, shape)

            @jax.jit  # once for all seeds: create_train_state compiles at each call of its own
            def init(rng: jax.Array, params: Any) -> TrainState:
                return create_train_state(net, optimizer, rng, shape, params=params)

            make_state = functools.partial(init, params=params)
            keys = [jax.random.key(seed) for seed in seeds]
            state = make_state(keys[0])
            params_count = sum(x.size for x in jax.tree.leaves(state.params))

        folder = run_folder.create_run_folder(
            f"{name}-{len(seeds)}seeds" if several else f"{name}-{config.seed}",
            config.output_dir,
            overwrite=config.overwrite,
        )
        with run_folder.interrupts_told(folder):
            settings = {"experiment": name, **dataclasses.asdict(config)}
            run_folder.write_json(folder / run_folder.CONFIG, settings)
            say(f"{name} on {data.name}: {len(data.train)} training samples, {name_seeds(seeds)}")
            say(f"Device: {facts['backend']} ({facts['device_kind']}), jax {facts['jax_version']}")
            if config.init_from is not None:
                say(f"Initial weights: {config.init_from}")
            if not config.quiet:
                summary(net, shape)

            progress = Progress(config.epochs, quiet=config.quiet)

            def after_epoch(members: Sequence[int], _: TrainState, rows: Sequence[Row]) -> None:
                own = [seeds[i] for i in members]
                for seed, row in zip(own, rows, strict=True):
                    row = {"seed": seed, **row} if several else row
                    run_folder.append_row(folder / run_folder.METRICS, row)
                progress.on_epoch(joint_row(rows), f"{name_seeds(own)}: " if several else "")

            step: dict[str, Any] = {"train_step": train_step, "batch_size": config.batch_size}
            schedule: dict[str, Any] = {
                "epochs": config.epochs,
                "validation": data.validation or (data.test if validate_on_test else None),
                "eval_step": eval_step,
                "on_chunk": progress.on_chunk,
            }
            with Stopwatch() as fit_watch, progress:
                if several:
                    schedule |= {"strategy": strategy, "group": group, "test": data.test}
                    schedule |= {"callbacks": [after_epoch], "keep_states": False}
                    epoch = functools.partial(train_epoch, **step)
                    _, histories = fit_seeds(make_state, epoch, keys, data.train, **schedule)
                else:
                    schedule |= {"callbacks": [lambda state, row: after_epoch([0], state, [row])]}
                    state, history = fit(state, data.train, **step, **schedule)
                    histories = [history]
            with Stopwatch() as test_watch:
                if several:
                    names = ("loss", "accuracy")
                    tests = [{x: rows[-1][f"test_{x}"] for x in names} for rows in histories]
                else:
                    tests = [evaluate(state, data.test, eval_step=eval_step)]

    watches = (data_watch, init_watch, fit_watch, test_watch)
    seconds_compile = sum(watch.compile_seconds for watch in watches)
    seconds_train = sum(row["seconds"] for history in histories for row in history)
    compiled = programs.compilations - programs.cached
    found = "off" if cache is None else "cold" if compiled else "cached"
    kept = f" ({compiled} of {programs.compilations} programs compiled; {cache})" if cache else ""
    say(f"Compilation: {seconds_compile:.1f}s, {found}{kept}")
    figures, lost = figures_of(histories, tests), diverged(histories, tests)
    own: dict[str, Any] = {"seed": config.seed, **{k: x[0] for k, x in figures.items()}}
    if several:
        own = {"seeds": list(seeds), "strategy": strategy, "group": group}
        own |= spread_figures(seeds, figures, lost)
    result = {
        "experiment": name,
        "dataset": data.name,
        "params_count": params_count,
        "epochs": config.epochs,
        "steps": len(histories[0]) * -(-len(data.train) // config.batch_size),
        **own,
        "seconds_import": _SECONDS_IMPORT,
        "seconds_data": data_watch.seconds,
        "seconds_compile": seconds_compile,
        "compilation_cache": found,
        "programs": programs.compilations,
        "programs_compiled": compiled,
        "seconds_train": seconds_train,
        "seconds_evaluation": fit_watch.seconds - seconds_train + test_watch.seconds,
        "seconds_total": (_SECONDS_IMPORT or 0.0) + time.perf_counter() - began,
        **facts,
    }
    run_folder.write_json(folder / run_folder.RESULT, result)
    if importlib.util.find_spec("matplotlib"):
        title, path = f"{name} on {data.name}, {name_seeds(seeds)}", folder / run_folder.CURVES
        if several:
            plot_seeds(histories, tests, lost, path, title=title)
        else:
            plot_history(histories[0], tests[0], path, title=title)
    else:
        print(f"matplotlib is missing: {run_folder.CURVES} is left out (pip install matplotlib).")
    if several:
        say(seed_table(seeds, figures))
        print(spread_lines(result))
    else:
        print("Test loss: {loss:.4f}\nTest accuracy: {accuracy:.4f}".format(**tests[0]))
    print(f"Run: {folder}")
    if config.export_keras is not None:
        overwrite = config.overwrite
        try:
            keras.save_weights(config.export_keras, state.params, net, shape, overwrite=overwrite)
        except OSError as error:
            kept = folder / "trained.weights.h5"
            keras.save_weights(kept, state.params, net, shape, overwrite=True)
            raise OSError(f"{error} The trained weights are in {kept} instead.") from error
        print(f"Keras weights: {config.export_keras}")
    return result


def _seeds(config: Config) -> tuple[int, ...]:
    return (config.seed,) if config.seeds is None else parse_seeds(config.seeds, config.seed)


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
    if not 0 < config.learning_rate < math.inf:
        raise ValueError(
            f"learning_rate must be positive and finite, not {config.learning_rate!r}."
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
    _seeds(config)
    choose_strategy(config.strategy, config.group)
    if config.overwrite and config.output_dir is None and config.export_keras is None:
        raise ValueError(
            "overwrite needs output_dir or export_keras: runs in runs/ never replace each other."
        )
