"""What every experiment shares: data, model, fit, evaluation, and the files in the run's folder."""

import contextlib
import dataclasses
import importlib.util
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import optax
from flax import linen as nn

from jaxconv import keras, run_folder
from jaxconv.checks import check_positive
from jaxconv.compilation_cache import cache_allowed, no_persistent_cache, persistent_cache
from jaxconv.data import load_dataset
from jaxconv.loop import Row, evaluate, fit
from jaxconv.losses import Loss
from jaxconv.machine import environment, process_seconds
from jaxconv.plots import plot_history
from jaxconv.progress import Progress
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
    """The run's folder, if not the next free runs/EXPERIMENT-SEED-N."""
    compilation_cache: bool = True
    """Keep compiled programs in the user's cache folder, and take them from there."""
    overwrite: bool = False
    """Replace the run that --output-dir holds, and the file that --export-keras names."""
    quiet: bool = False
    """Print nothing but the result."""


C = TypeVar("C", bound=Config)


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
    _check(config)
    say = (lambda *_: None) if config.quiet else print
    with Stopwatch() as data_watch:
        data = load_dataset(config.dataset, data_dir=config.data_dir)
        data = data.split_validation(config.validation_split)
    with _cache(config) as cache, CompileWatch() as programs:
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
            rng = jax.random.key(config.seed)
            state = create_train_state(net, optimizer, rng, shape, params=params)

        folder = run_folder.create_run_folder(
            f"{name}-{config.seed}", config.output_dir, overwrite=config.overwrite
        )
        with _interrupts_told(folder):
            settings = {"experiment": name, **dataclasses.asdict(config)}
            run_folder.write_json(folder / run_folder.CONFIG, settings)
            say(f"{name} on {data.name}: {len(data.train)} training samples, seed {config.seed}")
            say(f"Device: {facts['backend']} ({facts['device_kind']}), jax {facts['jax_version']}")
            if config.init_from is not None:
                say(f"Initial weights: {config.init_from}")
            if not config.quiet:
                summary(net, shape)

            progress = Progress(config.epochs, quiet=config.quiet)

            def after_epoch(_: TrainState, row: Row) -> None:
                run_folder.append_row(folder / run_folder.METRICS, row)
                progress.on_epoch(row)

            with Stopwatch() as fit_watch, progress:
                state, history = fit(
                    state,
                    data.train,
                    train_step=train_step,
                    epochs=config.epochs,
                    batch_size=config.batch_size,
                    validation=data.validation or (data.test if validate_on_test else None),
                    eval_step=eval_step,
                    callbacks=[after_epoch],
                    on_chunk=progress.on_chunk,
                )
            with Stopwatch() as test_watch:
                test = evaluate(state, data.test, eval_step=eval_step)

    watches = (data_watch, init_watch, fit_watch, test_watch)
    seconds_compile = sum(watch.compile_seconds for watch in watches)
    seconds_train = sum(row["seconds"] for row in history)
    compiled = programs.compilations - programs.cached
    found = "off" if cache is None else "cold" if compiled else "cached"
    kept = f" ({compiled} of {programs.compilations} programs compiled; {cache})" if cache else ""
    say(f"Compilation: {seconds_compile:.1f}s, {found}{kept}")
    last = history[-1]
    result = {
        "experiment": name,
        "dataset": data.name,
        "seed": config.seed,
        "params_count": sum(x.size for x in jax.tree.leaves(state.params)),
        "epochs": len(history),
        "steps": int(state.step),
        "train_loss": last["loss"],
        "train_accuracy": last["accuracy"],
        "val_loss": last.get("val_loss"),
        "val_accuracy": last.get("val_accuracy"),
        "test_loss": test["loss"],
        "test_accuracy": test["accuracy"],
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
        title = f"{name} on {data.name}, seed {config.seed}"
        plot_history(history, test, folder / run_folder.CURVES, title=title)
    else:
        print(f"matplotlib is missing: {run_folder.CURVES} is left out (pip install matplotlib).")
    print(f"Test loss: {test['loss']:.4f}\nTest accuracy: {test['accuracy']:.4f}\nRun: {folder}")
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


def cli(config: type[C], main: Callable[[C], Any], description: str | None) -> None:
    """Runs `main` with the settings of the command line: the entry point of an experiment's script.

    Errors that the user can mend end with a message and exit code 2, Ctrl-C with 130.
    """
    with contextlib.suppress(ValueError, AttributeError):  # a user's pipe may be ASCII
        sys.stdout.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        import tyro
    except ModuleNotFoundError:
        if len(sys.argv) > 1:
            print(
                "error: tyro is not installed, so options cannot be read: pip install tyro",
                file=sys.stderr,
            )
            sys.exit(2)
        print("tyro is not installed: running with the defaults.")
        settings = config()  # pyright: ignore[reportCallIssue]
    else:
        settings = tyro.cli(config, description=description, config=(tyro.conf.FlagCreatePairsOff,))
    try:
        main(settings)
    except KeyboardInterrupt:
        sys.stdout.flush()
        os._exit(130)  # an orderly exit crashes where XLA is still compiling
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


@contextlib.contextmanager
def _cache(config: Config) -> Iterator[str | None]:
    """The folder of the compilation cache, or None where it is off."""
    with contextlib.ExitStack() as stack:
        if config.compilation_cache and not cache_allowed():
            print("Compilation cache: off, JAX_ENABLE_COMPILATION_CACHE says so")
        elif config.compilation_cache:
            try:
                folder = stack.enter_context(persistent_cache())
            except OSError as error:
                print(f"Compilation cache: off, {error}")
            else:
                yield folder
                return
        stack.enter_context(no_persistent_cache())
        yield None


@contextlib.contextmanager
def _interrupts_told(folder: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        rows = folder / run_folder.METRICS
        if rows.exists():
            print(f"Interrupted. The epochs that ended are in {rows}")
        else:
            print(f"Interrupted before an epoch had ended; the settings are in {folder}")
        raise


def _check(config: Config) -> None:
    check_positive("epochs", config.epochs)
    check_positive("batch_size", config.batch_size)
    if not 0 < config.learning_rate < math.inf:
        raise ValueError(
            f"learning_rate must be positive and finite, not {config.learning_rate!r}."
        )
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), not {config.seed!r}.")
    if config.output_dir == "":
        raise ValueError("output_dir is empty: name a folder, or leave it out.")
    if config.overwrite and config.output_dir is None and config.export_keras is None:
        raise ValueError(
            "overwrite needs output_dir or export_keras: runs in runs/ never replace each other."
        )
