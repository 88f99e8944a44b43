"""The files of a run while it lasts: rows, checkpoints, diagnostics, and the result at the end."""

import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxconv.parallel import World
from jaxconv.runs.checkpoint import Checkpoints, Template
from jaxconv.runs.config import Config
from jaxconv.runs.files import RowWriter, warn_if_not_written, write_json, write_rows
from jaxconv.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    CURVES,
    DIAGNOSTICS,
    METRICS,
    MODEL,
    REPORT,
    RESULT,
    locked,
    new_run_folder,
    report_interrupt,
)  # fmt: skip
from jaxconv.runs.plan import Plan
from jaxconv.runs.plots import plot_run
from jaxconv.runs.report.render import write_report
from jaxconv.runs.result import Outcome, diverged
from jaxconv.runs.result_lines import name_seeds
from jaxconv.runs.resume import Found, report_resume_point
from jaxconv.training import ResumePoint, TrainState
from jaxconv.training.metrics import Row


class Elsewhere:
    """The folder of a run in a process that writes nothing: every call does nothing."""

    def restore(self, template: Template) -> list[tuple[TrainState, ResumePoint]]:
        """Reads the newest good checkpoints, if the run resumes and has some."""
        return []

    def begin(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Writes the settings and, on resuming, the rows so far."""

    def append(self, members: Sequence[int], rows: Sequence[Row]) -> None:
        """Writes the rows of an epoch."""

    def write(self, name: str, function: Callable[[Path], object]) -> None:
        """Lets a function write a file that is not there, or prints a warning."""

    def save(self, states: TrainState, resume_point: ResumePoint, *, now: bool = False) -> None:
        """Saves a checkpoint if it is due; with `now` at once, and waits for it."""

    def finish(
        self,
        result: Mapping[str, Any],
        outcome: Outcome,
        keep: Callable[[Path], None],
        export: Callable[[], None],
    ) -> None:
        """Writes the last files: curves, the trained net, the page, then `result.json`.

        Raises:
          OSError: if `keep` or `export` has raised it, once the rest is written.
        """


class RunFolder(Elsewhere):
    """The folder of a run in the process that writes.

    Args:
      path: the folder, which is locked.
      plan: the run's plan.
      config: its settings, for `config.json`.
      identity: `fingerprints` of the data and the initial weights.
      found: what the folder holds of the run to resume; None for a new run.
    """

    def __init__(
        self,
        path: Path,
        plan: Plan,
        config: Config,
        identity: Mapping[str, Any],
        found: Found | None,
    ) -> None:
        self.path, self._plan, self._config, self._found = path, plan, config, found
        self._rows = RowWriter(path / METRICS)
        self._restored = False
        self.checkpoints = Checkpoints(
            path / CHECKPOINTS,
            settings=plan.settings | dict(identity),
            grows="epochs" if plan.grows else None,
            every=config.run.save_every,
            keep=config.run.keep,
        )

    def __str__(self) -> str:
        return str(self.path)

    def restore(self, template: Template) -> list[tuple[TrainState, ResumePoint]]:
        if self._found:
            folder = self.checkpoints.folder
            if os.path.lexists(folder) and not folder.is_dir():
                print(f"{folder} is not a folder, so it has no checkpoint, and none can be saved.")
            try:
                saved = self.checkpoints.restore_groups(template)
            except FileNotFoundError:  # a run may end before its first save
                if self._found.epochs_before is not None:
                    raise ValueError(
                        f"{self.path} has no good checkpoint to train on from: start a new run "
                        f"from its net with --init-from {self.path}"
                    ) from None
            else:
                self._restored = True
                return saved
        return []

    def begin(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        found = self._found
        if found:
            write_rows(self.path / METRICS, [self._row(i, row) for i, row in rows])
        about: dict[str, Any] = {"experiment": self._plan.name, "command": shlex.join(sys.argv)}
        if found and found.config and found.epochs_before is not None:
            before = {"epochs": found.epochs_before, "command": found.config.get("command")}
            about["before"] = [*found.config.get("before", []), before]
            (self.path / DIAGNOSTICS).unlink(missing_ok=True)  # those of the shorter training
        if not self._restored or not (found and found.config) or "before" in about:
            write_json(self.path / CONFIG, about | dataclasses.asdict(self._config))

    def append(self, members: Sequence[int], rows: Sequence[Row]) -> None:
        for i, row in zip(members, rows, strict=True):
            self._rows.append(self._row(i, row))

    def _row(self, i: int, row: Mapping[str, float]) -> dict[str, Any]:
        return {"seed": self._plan.seeds[i], **row}

    def write(self, name: str, function: Callable[[Path], object]) -> None:
        if not (path := self.path / name).exists():
            with warn_if_not_written(path):
                function(path)

    def save(self, states: TrainState, resume_point: ResumePoint, *, now: bool = False) -> None:
        self.checkpoints(states, resume_point)
        epochs = len(resume_point.histories[resume_point.members.start])
        ended = resume_point.stopped or epochs >= self._plan.epochs
        if now or ended:  # from its end a training can go on
            self.checkpoints.save(states, resume_point)
        if now:
            self.checkpoints.wait()

    def finish(
        self,
        result: Mapping[str, Any],
        outcome: Outcome,
        keep: Callable[[Path], None],
        export: Callable[[], None],
    ) -> None:
        title = f"{self._plan.name} on {result['dataset']}, {name_seeds(self._plan.seeds)}"
        lost, path = diverged(outcome.histories, outcome.tests), self.path / CURVES
        with warn_if_not_written(path):
            plot_run(outcome.histories, outcome.tests, lost, path, title=title)
        failures = []  # the rest is written all the same
        try:
            keep(self.path / MODEL)
        except OSError as error:
            failures.append(error)
        try:
            export()
        except OSError as error:
            failures.append(OSError(f"{error} The trained net is in {self.path / MODEL}."))
        self._rows.flush()
        with warn_if_not_written(self.path / REPORT):
            write_report(self.path, result)
        self.checkpoints.wait()
        write_json(self.path / RESULT, result)  # the last file: from here on the run is finished
        if self.checkpoints.failed:
            print(f"Checkpoints that could not be saved: {self.checkpoints.failed}")
        print(f"Run: {self.path}")
        if failures:
            raise failures[0]


@contextlib.contextmanager
def open_folder(
    plan: Plan, config: Config, identity: Mapping[str, Any], found: Found | None, world: World
) -> Iterator[Elsewhere]:
    """Opens the run's folder in the first process, and its null twin in the others.

    Raises:
      FileExistsError: if the folder holds a run, and nothing asks to overwrite it.
      BlockingIOError: if another run uses the folder.
      OSError: if it cannot be made.
    """
    with contextlib.ExitStack() as stack:

        def open_here() -> RunFolder:
            if found:
                stack.enter_context(locked(path := Path(found.path)))
            else:
                where = config.run.output_dir
                new = new_run_folder(plan.title, where, overwrite=config.run.overwrite)
                path = stack.enter_context(new)
            folder = RunFolder(path, plan, config, identity, found)
            stack.enter_context(folder.checkpoints)
            stack.enter_context(report_resume_point(path, folder.checkpoints))
            stack.enter_context(report_interrupt(path))
            return folder

        yield world.on_first(open_here) or Elsewhere()
