"""What every experiment shares: data, model, fit, evaluation, and the files in the run's folder."""

import contextlib
import dataclasses
import functools
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import optax
from flax import linen as nn
from jax.sharding import Mesh

from jaxconv import parallel
from jaxconv.data import load_dataset
from jaxconv.data.arrays import Batch, Dataset, Split
from jaxconv.data.stream import Stream, StreamedDataset, open_streamed
from jaxconv.export import keras
from jaxconv.inspection.summary import summary
from jaxconv.measure.compilation_cache import cache_unless
from jaxconv.measure.environment import environment, process_seconds
from jaxconv.measure.timing import CompileWatch, Stopwatch
from jaxconv.runs import files as run_files
from jaxconv.runs import folder as run_folder
from jaxconv.runs._resume_point import from_json, to_json
from jaxconv.runs.checkpoint import Checkpoints
from jaxconv.runs.cli import cli as cli
from jaxconv.runs.config import Config as Config
from jaxconv.runs.config import check as check
from jaxconv.runs.config import command, seeds_of, training_settings
from jaxconv.runs.progress import Progress
from jaxconv.runs.report.collect import save_diagnostics
from jaxconv.runs.report.render import write_report
from jaxconv.runs.result import (
    diverged,
    figures_of,
    joint_row,
    result_lines,
    seed_table,
    spread_figures,
)
from jaxconv.runs.resume import (
    check_settings,
    fingerprints,
    finished,
    report_resume_point,
    rows_so_far,
)
from jaxconv.runs.seed_list import name_seeds
from jaxconv.runs.seed_plots import plot_run
from jaxconv.runs.signals import Interrupts
from jaxconv.training.epoch import train_epoch
from jaxconv.training.evaluate import Row, evaluate
from jaxconv.training.fit import fit
from jaxconv.training.losses import Loss
from jaxconv.training.replicas import choose_strategy, fit_seeds, groups, stack_states
from jaxconv.training.state import ResumePoint, TrainState, create_train_state
from jaxconv.training.step import make_eval_step, make_train_step

_SECONDS_IMPORT = process_seconds()

Saved = tuple[TrainState, ResumePoint]


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

    The folder gets `config.json` at the start, a line of `metrics.jsonl` after each epoch,
    `checkpoints/` where they are asked for, and `diagnostics.npz`, `curves.png`, `report.html` and
    `result.json` at the end. Of several processes each calls this, with the same settings; the
    first one prints and writes for all.

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
      ValueError: for a setting or data set that makes no sense, or one that the run to resume, or
        the first process, does not have. Nothing is written then.
      FileExistsError: if the named folder holds a run, or the file to export to is there, and
        `overwrite` is False.
      FileNotFoundError: if there is no file `init_from`, or no run to resume.
      BlockingIOError: if another run is under way in the folder.
      FloatingPointError: if the loss is no longer finite; of several seeds it is told at the end.
      OSError: if `export_keras` or the result cannot be written. Found at the end, the weights are
        kept in the run's folder, and the result has been printed.
    """
    began = time.perf_counter()
    parallel.initialize(config.coordinator, config.processes, config.process_id)
    mesh = parallel.data_mesh(config.devices or parallel.default_devices())
    first = parallel.is_first()
    check(config)
    several, seeds = config.seeds is not None, seeds_of(config)
    strategy, group = choose_strategy(config.strategy, config.group)
    title = f"{name}-{len(seeds)}seeds" if several else f"{name}-{config.seed}"
    quiet = config.quiet or not first
    say = (lambda *_: None) if quiet else print
    settings, begun, known = training_settings(config, name), None, False
    others = {"devices": mesh.size, "resume": config.resume, "save_every": config.save_every}
    parallel.check_agreement(settings | others | {"validate_on_test": validate_on_test})
    if config.resume:
        looked_up = parallel.on_first(lambda: _look_up(config, title, settings))
        begun, known, result = looked_up or (None, False, None)
        if result := parallel.broadcast_from_first(result):
            return result
    with (
        Interrupts() as interrupts,
        cache_unless(not config.compilation_cache) as cache,
        CompileWatch() as programs,
        contextlib.ExitStack() as stack,
        parallel.name_lost_peer(),
    ):
        with Stopwatch() as data_watch:
            data = _data(config, mesh)
            if jax.process_count() > 1:
                parallel.check_agreement(fingerprints(data, None))

            def place(split: Split) -> Batch:
                return parallel.replicate(split.batch(), mesh, same=True)

            train = place(data.train) if isinstance(data.train, Split) else data.train
            validation, test = data.validation and place(data.validation), place(data.test)
        net, optimizer = model(data.num_classes), tx(config.learning_rate)
        train_step = parallel.data_parallel(make_train_step(net, optimizer, loss=loss), mesh)
        eval_step = parallel.data_parallel(make_eval_step(net, loss=loss), mesh)
        facts, shape = environment(), data.input_shape
        with Stopwatch() as init_watch:
            params = parallel.on_first(lambda: _weights(config, net, shape))

            @jax.jit  # once for all seeds: create_train_state compiles at each call of its own
            def init(rng: jax.Array, params: Any) -> TrainState:
                return create_train_state(net, optimizer, rng, shape, params=params)

            def make_state(key: jax.Array) -> TrainState:
                return parallel.replicate(init(key, params), mesh)

            keys = [jax.random.key(seed) for seed in seeds]
            state = make_state(keys[0])
            params_count = sum(x.size for x in jax.tree.leaves(state.params))

        def template(position: ResumePoint) -> TrainState:
            own = position.members in groups(len(seeds), group if several else 1)
            if not own or len(position.histories) != len(seeds):
                raise ValueError(
                    f"A checkpoint of the run holds replicas {position.members}, which are none "
                    f"of {len(seeds)} in groups of {group}: it is of another run. Begin anew in "
                    "another folder."
                )
            members = [init(keys[i], params) for i in position.members]
            return stack_states(members) if several else members[0]

        def of_seed(i: int, row: Mapping[str, float]) -> dict[str, Any]:
            return {"seed": seeds[i], **row} if several else dict(row)

        def open_folder() -> tuple[Path, Checkpoints, Saved | None]:
            if begun is not None:
                stack.enter_context(run_folder.locked(folder := begun))
            else:
                options = {"overwrite": config.overwrite}
                folder = stack.enter_context(
                    run_folder.new_run_folder(title, config.output_dir, **options)
                )
            checkpoints = Checkpoints(
                folder / run_folder.CHECKPOINTS,
                settings=settings | fingerprints(data, params),
                every=config.save_every,
                keep=config.keep,
            )
            stack.enter_context(checkpoints)
            stack.enter_context(report_resume_point(folder, checkpoints))
            stack.enter_context(run_folder.report_interrupt(folder))
            found = checkpoints.restore(template) if config.resume else None
            if config.resume:
                histories = [[] for _ in seeds] if found is None else found[1].histories
                past = rows_so_far(histories, groups(len(seeds), group))
                path = folder / run_folder.METRICS
                run_files.write_rows(path, [of_seed(i, row) for i, row in past])
            if found is None or not known:
                whole = {"experiment": name, **dataclasses.asdict(config)}
                whole["command"] = command(config, name)
                run_files.write_json(folder / run_folder.CONFIG, whole)
            return folder, checkpoints, found

        opened = parallel.on_first(open_folder)
        folder, checkpoints, found = opened or (None, None, None)
        position = ResumePoint(0, range(0), [[] for _ in seeds])
        if saved := parallel.broadcast_from_first(found and to_json(found[1])):
            position, _ = from_json(saved)
            restored = template(position) if found is None else found[0]
            found = parallel.replicate(restored, mesh), position
        say(f"{name} on {data.name}: {len(data.train)} training samples, {name_seeds(seeds)}")
        say(f"Device: {facts['backend']} ({facts['device_kind']}), jax {facts['jax_version']}")
        if mesh.size > 1:
            say(f"Each batch is divided among {parallel.name_devices(mesh)}")
        if config.init_from is not None:
            say(f"Initial weights: {config.init_from}")
        if not quiet:
            summary(net, shape)
        if config.resume and folder:
            nothing = ": no checkpoint, so from the beginning" if found is None else ""
            print(f"Resumed in {folder} at step {position.step}{nothing}")

        rows = folder and run_files.RowWriter(folder / run_folder.METRICS)
        progress, report_watch = Progress(config.epochs, quiet=quiet), Stopwatch()

        def keep(members: Sequence[int], state: TrainState) -> None:
            if folder is None or (path := folder / run_folder.DIAGNOSTICS).exists():
                return
            own, state = [seeds[i] for i in members], parallel.unreplicate(state)
            with report_watch, run_files.warn_if_not_written(path):
                save_diagnostics(path, net, state, own, data.test, stacked=several)

        def after_epoch(members: Sequence[int], state: TrainState, ended: Sequence[Row]) -> None:
            if rows is None:
                return
            for i, row in zip(members, ended, strict=True):
                rows.append(of_seed(i, row))
            if ended[0]["epoch"] == config.epochs:
                keep(members, state)
            whose = f"{name_seeds([seeds[i] for i in members])}: " if several else ""
            progress.on_epoch(joint_row(ended), whose)

        def save(state: TrainState, position: ResumePoint) -> None:
            # What all processes heard until here; what one hears from now on is for the next time.
            heard = parallel.all_max(int(interrupts.pending or 0))
            if checkpoints is not None:
                checkpoints(own := parallel.unreplicate(state), position)
                if heard:
                    checkpoints.save(own, position)
                    checkpoints.wait()
            if heard:
                parallel.shutdown()
                interrupts.raise_for(heard)

        step: dict[str, Any] = {"train_step": train_step, "batch_size": config.batch_size}
        schedule: dict[str, Any] = {
            "epochs": config.epochs,
            "validation": validation or (test if validate_on_test else None),
            "eval_step": eval_step,
            "on_chunk": progress.on_chunk,
            "save": save,
            "save_every": None if config.save_every == "epoch" else config.save_every,
        }
        stack.enter_context(interrupts.held())  # to the end: what is left takes seconds
        with Stopwatch() as fit_watch, progress:
            if several:
                schedule |= {"strategy": strategy, "group": group, "test": test}
                schedule |= {"callbacks": [after_epoch], "keep_states": False, "resume": found}
                assert not isinstance(train, Stream)  # `check` has refused it
                epoch = functools.partial(train_epoch, **step)
                _, histories = fit_seeds(make_state, epoch, keys, train, **schedule)
                if found is not None and position.histories == histories:  # no epoch was left
                    keep(position.members, found[0])
            else:
                schedule |= {"callbacks": [lambda state, row: after_epoch([0], state, [row])]}
                if found is not None:
                    state, schedule["resume"] = found
                state, history = fit(state, train, **step, **schedule)
                histories = [history]
                keep([0], state)
        with Stopwatch() as test_watch:
            if several:
                names = ("loss", "accuracy")
                tests = [{x: rows[-1][f"test_{x}"] for x in names} for rows in histories]
            else:
                tests = [evaluate(state, test, eval_step=eval_step)]

        def conclude() -> dict[str, Any]:
            assert folder is not None
            assert checkpoints is not None
            assert rows is not None
            watches = (data_watch, init_watch, fit_watch, test_watch)
            seconds_compile = sum(watch.compile_seconds for watch in watches)
            seconds_train = _seconds(histories)
            compiled = programs.compilations - programs.cached
            hit = "off" if cache is None else "cold" if compiled else "cached"
            kept = f" ({compiled} of {programs.compilations} programs compiled; {cache})"
            say(f"Compilation: {seconds_compile:.1f}s, {hit}{kept if cache else ''}")
            figures, lost = figures_of(histories, tests), diverged(histories, tests)
            own: dict[str, Any] = {"seed": config.seed, **{k: x[0] for k, x in figures.items()}}
            if several:
                own = {"seeds": list(seeds), "strategy": strategy, "group": group}
                own |= spread_figures(seeds, figures, lost)
            before = _seconds(position.histories) + position.seconds
            result = {
                "experiment": name,
                "dataset": data.name,
                "params_count": params_count,
                "epochs": config.epochs,
                "steps": len(histories[0]) * -(-len(data.train) // config.batch_size),
                "resumed_at_step": position.step if config.resume else None,
                **own,
                "devices": mesh.size,
                "processes": jax.process_count(),
                "seconds_import": _SECONDS_IMPORT,
                "seconds_data": data_watch.seconds,
                "seconds_compile": seconds_compile,
                "compilation_cache": hit,
                "programs": programs.compilations,
                "programs_compiled": compiled,
                "seconds_train": seconds_train,
                "seconds_evaluation": fit_watch.seconds
                - (seconds_train - before)
                - report_watch.seconds
                + test_watch.seconds,
                "seconds_report": report_watch.seconds,
                "seconds_total": (_SECONDS_IMPORT or 0.0) + time.perf_counter() - began,
                **facts,
            }
            if several:
                say(seed_table(seeds, figures))
            print(result_lines(result))
            if importlib.util.find_spec("matplotlib"):
                heading = f"{name} on {data.name}, {name_seeds(seeds)}"
                path = folder / run_folder.CURVES
                with run_files.warn_if_not_written(path):
                    plot_run(histories, tests, lost, path, title=heading, several=several)
            else:
                missing = f"{run_folder.CURVES} is left out (pip install matplotlib)."
                print(f"matplotlib is missing: {missing}")
            failure = None
            if config.export_keras is not None:
                failure = _export(config, parallel.unreplicate(state), net, shape, folder)
            rows.flush()
            _report(folder, result)
            checkpoints.wait()
            # The last: the run is finished.
            run_files.write_json(folder / run_folder.RESULT, result)
            if checkpoints.failed:
                print(f"Checkpoints that could not be saved: {checkpoints.failed}")
            print(f"Run: {folder}")
            if failure is not None:
                raise failure
            if config.export_keras is not None:
                print(f"Keras weights: {config.export_keras}")
            return result

        result = parallel.broadcast_from_first(parallel.on_first(conclude))
        if heard := parallel.all_max(int(interrupts.pending or 0)):
            parallel.shutdown()
            interrupts.raise_for(heard)
        return result


def _data(config: Config, mesh: Mesh) -> Dataset | StreamedDataset:
    where, share = {"data_dir": config.data_dir}, config.validation_split
    if config.stream:
        more: Any = {"workers": config.workers, "mesh": mesh}
        return open_streamed(config.dataset, validation_split=share, **where, **more)
    return load_dataset(config.dataset, **where).split_validation(share)


def _look_up(
    config: Config, title: str, settings: Mapping[str, Any]
) -> tuple[Path, bool, dict[str, Any] | None]:
    """The folder to resume in, whether it tells its settings, and the result if it is finished."""
    folder = run_folder.find_run_folder(title, config.output_dir)
    known, result = check_settings(folder, settings), None
    if (folder / run_folder.RESULT).exists():
        result = finished(folder, config.export_keras)
        if not (folder / run_folder.REPORT).exists():
            _report(folder, result)
    return folder, known, result


def _weights(config: Config, net: nn.Module, shape: tuple[int, ...]) -> Any:
    """The weights to begin with, if a file has them; and the file to end with can be written."""
    if config.export_keras is not None:
        keras.check_save(config.export_keras, net, shape, overwrite=config.overwrite)
    return None if config.init_from is None else keras.load_weights(config.init_from, net, shape)


def _report(folder: Path, result: Mapping[str, Any]) -> None:
    with run_files.warn_if_not_written(folder / run_folder.REPORT):
        write_report(folder, result)


def _export(
    config: Config, state: TrainState, net: nn.Module, shape: tuple[int, ...], folder: Path
) -> OSError | None:
    """Writes the weights for Keras; where that fails, in the run's folder."""
    path, kept = str(config.export_keras), folder / run_folder.TRAINED
    try:
        keras.save_weights(path, state.params, net, shape, overwrite=config.overwrite)
    except OSError as error:
        keras.save_weights(kept, state.params, net, shape, overwrite=True)
        return OSError(f"{error} The trained weights are in {kept} instead.")
    return None


def _seconds(histories: Sequence[Sequence[Mapping[str, float]]]) -> float:
    return sum(row["seconds"] for history in histories for row in history)
