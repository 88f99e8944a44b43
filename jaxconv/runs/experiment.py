"""The course of an experiment: data, net, training, and the files of its run, in one file.

These walls must stand:
- Bad settings are refused before anything else happens, and nothing is written if anything is.
- The processes join before JAX is used.
- All processes make the same collective calls in the same order.
- A signal counts once all processes know of it.
- On resuming, the rows are rewritten from the checkpoint's history.
- The trained net is kept, also if an export of it fails.
- `result.json` is the last file to be written.
"""

from pathlib import Path
from typing import Any

import jax

from jaxconv._checks import check_installed
from jaxconv.export import save_weights
from jaxconv.inspection.summary import summary
from jaxconv.measure.compilation_cache import cache_if_possible
from jaxconv.measure.environment import environment
from jaxconv.parallel import World, name_devices, name_lost_peer
from jaxconv.runs._resume_point import from_object, to_object
from jaxconv.runs.clock import Clock
from jaxconv.runs.config import Config
from jaxconv.runs.ensemble import ensemble_figures
from jaxconv.runs.plan import Plan
from jaxconv.runs.prepare import Samples, build, is_keras_file, load
from jaxconv.runs.progress import Progress, spinner
from jaxconv.runs.recipe import Recipe
from jaxconv.runs.result import Outcome, joint_row, nets_of, seconds_of, summarise
from jaxconv.runs.result_lines import name_seeds, result_lines, seed_table
from jaxconv.runs.resume import check_whole, find_run, fingerprints, rows_so_far
from jaxconv.runs.run_folder import open_folder
from jaxconv.runs.session import Session, Start
from jaxconv.runs.signals import Interrupts
from jaxconv.training import ResumePoint, Row, TrainState, fit_seeds, groups, histories_of

NVIDIA = Path("/dev/nvidiactl")
"""The file of the driver, where a machine has an NVIDIA device."""


def run(recipe: Recipe, config: Config) -> dict[str, Any]:
    """Trains and evaluates a net as its recipe says, and writes the run's folder.

    The folder receives `config.json` at the start, a line of `metrics.jsonl` after each epoch, a
    checkpoint when a training ends and when the settings ask for one, and `diagnostics.npz`,
    `curves.png`, `model.safetensors`, `report.html` and `result.json` at the end. Several processes
    each call this with the same settings; the first one prints and writes for all.

    Args:
      recipe: the experiment's name, net, optimizer and loss.
      config: the settings.

    Returns:
      The content of `result.json`.

    Raises:
      ModuleNotFoundError: if a package is missing that these settings need. Nothing is written.
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
    check_packages(config)
    plan = Plan.of(recipe, config)
    world = join(plan, config)
    found = world.on_first(lambda: find_run(plan, config))
    if finished := world.share(found and found.result):
        return finished
    with (
        name_lost_peer(),
        Interrupts() as interrupts,
        cache_if_possible(config.run.compilation_cache) as cache,
        Clock() as clock,
    ):
        quiet = config.run.quiet or not world.first
        with spinner("Loading the data", quiet=quiet), clock("data"):
            data, samples = load(plan, config, world)
        with spinner("Making the net", quiet=quiet), clock("init"):
            net = build(recipe, plan, config, data, world)
        identity = fingerprints(data, net.given)
        world.agree({"data": identity["data"]})
        with open_folder(plan, config, identity, found, world) as folder:
            session = Session(plan, config, world, clock, interrupts, data, net, folder)
            start = begin(session)
            announce(session, start)
            with interrupts.held():  # until the end: after the training only seconds remain
                with clock("fit"):
                    outcome = train(session, samples, start)
                result = world.share(world.on_first(lambda: finish(session, outcome, start, cache)))
                session.end_on(world.signal(interrupts.pending))
    return result


def check_packages(config: Config) -> None:
    """Refuses to begin without the packages that the settings need, to the end."""
    check_installed("run")
    keras = config.run.init_from is not None and is_keras_file(config.run.init_from)
    if keras or config.run.export_keras is not None:
        check_installed("keras")


def join(plan: Plan, config: Config) -> World:
    """Joins the processes, and refuses those that began with other settings."""
    own = config.parallel
    world = World.join(
        devices=own.devices,
        processes=own.processes,
        process_id=own.process_id,
        coordinator=own.coordinator,
    )
    more = {"devices": world.mesh.size, "validate_on_test": plan.validate_on_test}
    more |= {"resume": config.run.resume, "save_every": config.run.save_every}
    world.agree(plan.settings | more)
    return world


def begin(session: Session) -> Start:
    """Reads the checkpoint to resume from, and writes the first files."""
    plan, net, world = session.plan, session.net, session.world

    def template(point: ResumePoint) -> TrainState:
        if len(point.histories) != len(plan.seeds):
            raise ValueError(
                f"A checkpoint of the run holds {len(point.histories)} replicas, not "
                f"{len(plan.seeds)}: another run saved it. Begin anew in another folder."
            )
        return net.make_states([plan.seeds[i] for i in point.members])

    found = world.on_first(lambda: session.folder.restore(template)) or []
    points = list(map(from_object, world.share([to_object(point) for _, point in found])))
    histories = histories_of(points, len(plan.seeds))
    resume: list[tuple[TrainState | None, ResumePoint]] = []
    nets = {}
    for i, point in enumerate(points):
        states = found[i][0] if found else template(point)
        if point.stopped or all(len(histories[k]) >= plan.epochs for k in point.members):
            nets[point.members] = nets_of(states)
            states = None if i + 1 < len(points) else states
        resume.append((None if states is None else world.place(states), point))
    all_groups = groups(len(plan.seeds), net.group)
    check_whole(plan, all_groups, [point.members for point in points])
    rows = list(rows_so_far(histories, all_groups))
    world.on_first(lambda: session.folder.begin(rows))
    return Start(resume, histories, nets)


def announce(session: Session, start: Start) -> None:
    """Prints what will be trained, where, and from which step."""
    plan, config, data, world = session.plan, session.config, session.data, session.world
    if not world.first:
        return
    if not config.run.quiet:
        facts, seeds = environment(), name_seeds(plan.seeds)
        print(f"{plan.name} on {data.name}: {len(data.train)} training samples, {seeds}")
        print(f"Device: {facts['backend']} ({facts['device_kind']}), jax {facts['jax_version']}")
        if (
            facts["backend"] == "cpu"
            and not getattr(jax.config, "jax_platforms", None)
            and NVIDIA.exists()
        ):
            print('JAX does not use this machine\'s NVIDIA device: pip install -U "jax[cuda13]"')
        if world.mesh.size > 1:
            print(f"Each batch is divided among {name_devices(world.mesh)}")
        if config.run.init_from is not None:
            print(f"Initial weights: {config.run.init_from}")
        summary(session.net.model, data.input_shape)
    if config.run.resume:
        nothing = "" if start.groups else ": no checkpoint, so from the beginning"
        print(f"Resumed in {session.folder} at step {start.step}{nothing}")


def train(session: Session, samples: Samples, start: Start) -> Outcome:
    """Trains all seeds, from the checkpoint on if there is one."""
    plan, net, world = session.plan, session.net, session.world
    progress = Progress(plan.epochs, quiet=session.config.run.quiet or not world.first)
    nets = dict(start.nets)
    last: list[Any] = [start.groups[-1][1].members, start.groups[-1][0]] if start.groups else []

    def on_epoch(members: range, states: TrainState, rows: list[Row]) -> None:
        last[:] = members, states
        session.folder.append(members, rows)
        if "test_accuracy" in rows[0]:
            if world.first:
                nets[members] = nets_of(world.own(states))
            session.diagnose(members, states)
        progress.on_epoch(joint_row(rows), plan.label(members))

    with progress:
        _, histories = fit_seeds(
            net.functions,
            lambda seed: world.place(net.make_state(seed)),
            plan.seeds,
            samples.train,
            epochs=plan.epochs,
            batch_size=plan.batch_size,
            validation=samples.validation,
            test=samples.test,
            strategy=net.strategy,
            group=net.group,
            callbacks=[on_epoch],
            on_chunk=progress.on_chunk,
            check_finite=plan.check_finite,
            early_stopping=session.config.training.early_stopping,
            keep_states=False,
            save=session.save,
            save_every=plan.save_every,
            resume=start.groups,
        )
    session.diagnose(*last)  # if no epoch was left
    return Outcome(last[1], histories, nets)


def finish(session: Session, outcome: Outcome, start: Start, cache: str | None) -> dict[str, Any]:
    """Prints the result, and writes the last files."""
    config, data, net = session.config, session.data, session.net
    trained = session.trained(outcome)
    with session.clock("report"):
        together = ensemble_figures(trained, data.test)
    result = summarise(
        outcome,
        name=session.plan.name,
        seeds=session.plan.seeds,
        program=(net.strategy, net.group),
        seconds_before=seconds_of(start.histories) + sum(x.seconds for _, x in start.groups),
        clock=session.clock,
        cache=cache,
        facts=together | session.facts(start),
    )
    if not config.run.quiet:
        compiled = f"{result['programs_compiled']} of {result['programs']} programs compiled"
        where = f" ({compiled}; {cache})" if cache else ""
        print(
            f"Compilation: {result['seconds_compile']:.1f}s, {result['compilation_cache']}{where}"
        )
        if table := seed_table(result):
            print(table)
    print(result_lines(result))

    def export() -> None:
        if (path := config.run.export_keras) is not None:
            state, shape, overwrite = trained.state, data.input_shape, config.run.overwrite
            own = {"params": state.params, "batch_stats": state.batch_stats}
            save_weights(path, model=net.model, input_shape=shape, overwrite=overwrite, **own)

    session.folder.finish(result, outcome, trained.save, export)
    if config.run.export_keras is not None:
        print(f"Keras weights: {config.run.export_keras}")
    return result
