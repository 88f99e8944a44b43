"""The course of an experiment: data, model, training, evaluation, and the files of its run.

These walls must stand:
- The processes join before JAX is used.
- Nothing is written if anything is refused.
- All processes make the same collective calls in the same order.
- A signal counts once all processes know of it.
- On resuming, the rows are rewritten from the checkpoint's history.
- Trained weights are kept if their export fails.
- `result.json` is the last file to be written.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Mesh

from jaxconv import parallel
from jaxconv.data import load_dataset
from jaxconv.data.arrays import Batch, Dataset, Split
from jaxconv.data.stream import Stream, StreamedDataset, open_streamed
from jaxconv.inspection.summary import summary
from jaxconv.measure.compilation_cache import cache_if_possible
from jaxconv.measure.environment import environment, process_seconds
from jaxconv.measure.timing import CompileWatch, Stopwatch
from jaxconv.runs._command import command
from jaxconv.runs._keras_weights import export_trained_weights, read_initial_weights
from jaxconv.runs._resume_point import from_json, to_json
from jaxconv.runs.checkpoint import Checkpoints
from jaxconv.runs.config import Config, check, seeds_of, training_settings
from jaxconv.runs.files import RowWriter, warn_if_not_written, write_json, write_rows
from jaxconv.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    CURVES,
    DIAGNOSTICS,
    METRICS,
    REPORT,
    RESULT,
    find_run_folder,
    locked,
    new_run_folder,
    report_interrupt,
)
from jaxconv.runs.plots import plot_run
from jaxconv.runs.progress import Progress
from jaxconv.runs.recipe import Recipe
from jaxconv.runs.report.collect import save_diagnostics
from jaxconv.runs.report.render import write_report
from jaxconv.runs.result import (
    diverged,
    figures_of,
    joint_row,
    name_seeds,
    result_lines,
    seed_table,
    summarize_figures,
)
from jaxconv.runs.resume import (
    check_settings,
    fingerprints,
    finished,
    report_resume_point,
    rows_so_far,
)
from jaxconv.runs.signals import Interrupts
from jaxconv.training import choose_strategy, fit_seeds, groups, stack_states
from jaxconv.training.epoch import train_epoch
from jaxconv.training.evaluate import evaluate
from jaxconv.training.fit import fit
from jaxconv.training.metrics import Row
from jaxconv.training.state import ResumePoint, TrainState, create_train_state
from jaxconv.training.step import make_eval_step, make_train_step

_SECONDS_IMPORT = process_seconds()

Saved = tuple[TrainState, ResumePoint]


def run(config: Config, recipe: Recipe, model: Callable[[int], nn.Module]) -> dict[str, Any]:
    """Trains and evaluates one net, and writes the run's folder.

    The folder receives `config.json` at the start, a line of `metrics.jsonl` after each epoch,
    `checkpoints/` if the settings ask for them, and `diagnostics.npz`, `curves.png`, `report.html`
    and `result.json` at the end. Several processes each call this with the same settings; the first
    one prints and writes for all.

    Args:
      config: the settings.
      recipe: the experiment's name, optimizer and loss.
      model: makes the model for a number of classes.

    Returns:
      The content of `result.json`.

    Raises:
      ValueError: if a setting or data set makes no sense, or differs from that of the run to
        resume or of the first process. Nothing is written then.
      FileExistsError: if the folder holds a run, or the file to export exists, and `overwrite` is
        False.
      FileNotFoundError: if there is no file `init_from`, or no run to resume.
      BlockingIOError: if another run uses the folder.
      FloatingPointError: if the loss is no longer finite. With several seeds the result reports it.
      OSError: if `export_keras` or the result cannot be written. If that shows at the end, the
        run's folder keeps the weights, and the result has been printed.
    """
    began = time.perf_counter()
    parallel.initialize(config.coordinator, config.processes, config.process_id)
    mesh = parallel.data_mesh(config.devices or parallel.default_devices())
    check(config)
    several, seeds = config.seeds is not None, seeds_of(config)
    strategy, group = choose_strategy(config.strategy, config.group)
    name = recipe.name
    title = f"{name}-{len(seeds)}seeds" if several else f"{name}-{config.seed}"
    quiet = config.quiet or not parallel.is_first()
    show = (lambda *_: None) if quiet else print
    settings, resumed, config_known = training_settings(config, name), None, False
    others = {"devices": mesh.size, "resume": config.resume, "save_every": config.save_every}
    parallel.check_agreement(settings | others | {"validate_on_test": recipe.validate_on_test})
    if config.resume:
        looked_up = parallel.on_first(lambda: _look_up(config, title, settings))
        resumed, config_known, result = looked_up or (None, False, None)
        if result := parallel.broadcast_from_first(result):
            return result
    with (
        Interrupts() as interrupts,
        cache_if_possible(config.compilation_cache) as cache,
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
        net, optimizer = model(data.num_classes), recipe.tx(config.learning_rate)
        train_step = parallel.data_parallel(make_train_step(net, optimizer, loss=recipe.loss), mesh)
        eval_step = parallel.data_parallel(make_eval_step(net, loss=recipe.loss), mesh)
        facts, shape = environment(), data.input_shape
        with Stopwatch() as init_watch:
            params = parallel.on_first(lambda: read_initial_weights(config, net, shape))

            @jax.jit  # once for all seeds: create_train_state compiles at each call
            def init(rng: jax.Array, params: Any) -> TrainState:
                return create_train_state(net, optimizer, rng, shape, params=params)

            def make_state(key: jax.Array) -> TrainState:
                return parallel.replicate(init(key, params), mesh)

            keys = [jax.random.key(seed) for seed in seeds]
            state = make_state(keys[0])
            params_count = sum(x.size for x in jax.tree.leaves(state.params))

        def template(resume_point: ResumePoint) -> TrainState:
            is_group = resume_point.members in groups(len(seeds), group if several else 1)
            if not is_group or len(resume_point.histories) != len(seeds):
                raise ValueError(
                    f"A checkpoint of the run holds replicas {resume_point.members}, which do not "
                    f"belong to {len(seeds)} replicas in groups of {group}: another run saved it. "
                    "Begin anew in another folder."
                )
            members = [init(keys[i], params) for i in resume_point.members]
            return stack_states(members) if several else members[0]

        def with_seed(i: int, row: Mapping[str, float]) -> dict[str, Any]:
            return {"seed": seeds[i], **row} if several else dict(row)

        def open_folder() -> tuple[Path, Checkpoints, Saved | None]:
            if resumed is not None:
                stack.enter_context(locked(folder := resumed))
            else:
                options = {"overwrite": config.overwrite}
                folder = stack.enter_context(new_run_folder(title, config.output_dir, **options))
            checkpoints = Checkpoints(
                folder / CHECKPOINTS,
                settings=settings | fingerprints(data, params),
                every=config.save_every,
                keep=config.keep,
            )
            stack.enter_context(checkpoints)
            stack.enter_context(report_resume_point(folder, checkpoints))
            stack.enter_context(report_interrupt(folder))
            found = checkpoints.restore(template) if config.resume else None
            if config.resume:
                histories = [[] for _ in seeds] if found is None else found[1].histories
                past = rows_so_far(histories, groups(len(seeds), group))
                write_rows(folder / METRICS, [with_seed(i, row) for i, row in past])
            if found is None or not config_known:
                whole = {"experiment": name, **dataclasses.asdict(config)}
                whole["command"] = command(config, name)
                write_json(folder / CONFIG, whole)
            return folder, checkpoints, found

        opened = parallel.on_first(open_folder)
        folder, checkpoints, found = opened or (None, None, None)
        resume_point = ResumePoint(0, range(0), [[] for _ in seeds])
        if saved := parallel.broadcast_from_first(found and to_json(found[1])):
            resume_point, _ = from_json(saved)
            restored = template(resume_point) if found is None else found[0]
            found = parallel.replicate(restored, mesh), resume_point
        show(f"{name} on {data.name}: {len(data.train)} training samples, {name_seeds(seeds)}")
        show(f"Device: {facts['backend']} ({facts['device_kind']}), jax {facts['jax_version']}")
        if mesh.size > 1:
            show(f"Each batch is divided among {parallel.name_devices(mesh)}")
        if config.init_from is not None:
            show(f"Initial weights: {config.init_from}")
        if not quiet:
            summary(net, shape)
        if config.resume and folder:
            nothing = ": no checkpoint, so from the beginning" if found is None else ""
            print(f"Resumed in {folder} at step {resume_point.step}{nothing}")

        rows = folder and RowWriter(folder / METRICS)
        progress, report_watch = Progress(config.epochs, quiet=quiet), Stopwatch()

        def write_diagnostics(members: Sequence[int], state: TrainState) -> None:
            if folder is None or (path := folder / DIAGNOSTICS).exists():
                return
            own, state = [seeds[i] for i in members], parallel.unreplicate(state)
            with report_watch, warn_if_not_written(path):
                save_diagnostics(path, net, state, own, data.test, stacked=several)

        def after_epoch(members: Sequence[int], state: TrainState, ended: Sequence[Row]) -> None:
            if rows is None:
                return
            for i, row in zip(members, ended, strict=True):
                rows.append(with_seed(i, row))
            if ended[0]["epoch"] == config.epochs:
                write_diagnostics(members, state)
            prefix = f"{name_seeds([seeds[i] for i in members])}: " if several else ""
            progress.on_epoch(joint_row(ended), prefix)

        def save(state: TrainState, resume_point: ResumePoint) -> None:
            # Agree on the signals received so far; later ones wait for the next save.
            signal_number = parallel.all_max(int(interrupts.pending or 0))
            if checkpoints is not None:
                checkpoints(own := parallel.unreplicate(state), resume_point)
                if signal_number:
                    checkpoints.save(own, resume_point)
                    checkpoints.wait()
            if signal_number:
                parallel.shutdown()
                interrupts.raise_for(signal_number)

        step: dict[str, Any] = {"train_step": train_step, "batch_size": config.batch_size}
        schedule: dict[str, Any] = {
            "epochs": config.epochs,
            "validation": validation or (test if recipe.validate_on_test else None),
            "eval_step": eval_step,
            "on_chunk": progress.on_chunk,
            "save": save,
            "save_every": None if config.save_every == "epoch" else config.save_every,
        }
        stack.enter_context(interrupts.held())  # until the end: after `fit` only seconds remain
        with Stopwatch() as fit_watch, progress:
            if several:
                schedule |= {"strategy": strategy, "group": group, "test": test}
                schedule |= {"callbacks": [after_epoch], "keep_states": False, "resume": found}
                assert not isinstance(train, Stream)  # `check` refuses it
                epoch = functools.partial(train_epoch, **step)
                _, histories = fit_seeds(make_state, epoch, keys, train, **schedule)
                if found is not None and resume_point.histories == histories:  # no epoch was left
                    write_diagnostics(resume_point.members, found[0])
            else:
                schedule |= {"callbacks": [lambda state, row: after_epoch([0], state, [row])]}
                if found is not None:
                    state, schedule["resume"] = found
                state, history = fit(state, train, **step, **schedule)
                histories = [history]
                write_diagnostics([0], state)
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
            counts = f" ({compiled} of {programs.compilations} programs compiled; {cache})"
            show(f"Compilation: {seconds_compile:.1f}s, {hit}{counts if cache else ''}")
            figures, lost = figures_of(histories, tests), diverged(histories, tests)
            own: dict[str, Any] = {"seed": config.seed, **{k: x[0] for k, x in figures.items()}}
            if several:
                own = {"seeds": list(seeds), "strategy": strategy, "group": group}
                own |= summarize_figures(seeds, figures, lost)
            before = _seconds(resume_point.histories) + resume_point.seconds
            result = {
                "experiment": name,
                "dataset": data.name,
                "params_count": params_count,
                "epochs": config.epochs,
                "steps": len(histories[0]) * -(-len(data.train) // config.batch_size),
                "resumed_at_step": resume_point.step if config.resume else None,
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
                show(seed_table(seeds, figures))
            print(result_lines(result))
            if importlib.util.find_spec("matplotlib"):
                heading = f"{name} on {data.name}, {name_seeds(seeds)}"
                path = folder / CURVES
                with warn_if_not_written(path):
                    plot_run(histories, tests, lost, path, title=heading, several=several)
            else:
                missing = f"{CURVES} is left out (pip install matplotlib)."
                print(f"matplotlib is missing: {missing}")
            failure = None
            if config.export_keras is not None:
                trained = parallel.unreplicate(state)
                failure = export_trained_weights(config, trained, net, shape, folder)
            rows.flush()
            _report(folder, result)
            checkpoints.wait()
            # The last file: from here on the run is finished.
            write_json(folder / RESULT, result)
            if checkpoints.failed:
                print(f"Checkpoints that could not be saved: {checkpoints.failed}")
            print(f"Run: {folder}")
            if failure is not None:
                raise failure
            if config.export_keras is not None:
                print(f"Keras weights: {config.export_keras}")
            return result

        result = parallel.broadcast_from_first(parallel.on_first(conclude))
        if signal_number := parallel.all_max(int(interrupts.pending or 0)):
            parallel.shutdown()
            interrupts.raise_for(signal_number)
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
    """The folder to resume in, whether its `config.json` is readable, and a finished result."""
    folder = find_run_folder(title, config.output_dir)
    config_known, result = check_settings(folder, settings), None
    if (folder / RESULT).exists():
        result = finished(folder, config.export_keras)
        if not (folder / REPORT).exists():
            _report(folder, result)
    return folder, config_known, result


def _report(folder: Path, result: Mapping[str, Any]) -> None:
    with warn_if_not_written(folder / REPORT):
        write_report(folder, result)


def _seconds(histories: Sequence[Sequence[Mapping[str, float]]]) -> float:
    return sum(row["seconds"] for history in histories for row in history)
