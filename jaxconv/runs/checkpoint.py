"""Checkpoints: a run resumes from one to the bit, and each is whole or absent.

A checkpoint is one file of `tensors`, `STEP.safetensors`, named by the number of steps taken, with
the arrays of a state and its resume point. A file of a later group of replicas also has the number
of its first one, `STEP-FIRST.safetensors`. Saving and restoring stand in one file, since they share
the names, the settings and the folder.
"""

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from jaxconv._checks import check_positive, list_changes
from jaxconv.measure.environment import environment
from jaxconv.runs._resume_point import OtherFormatError, from_object, to_object
from jaxconv.runs._state_arrays import named_arrays, read_state
from jaxconv.runs.files import DRAFT
from jaxconv.runs.tensors import read_header, write_tensors
from jaxconv.training import ResumePoint, TrainState

ENDING = ".safetensors"
NAME = re.compile(r"([0-9]+)(?:-([0-9]+))?\.safetensors")
"""The name of a checkpoint: the steps taken, and the first replica unless it is 0."""

Template = TrainState | Callable[[ResumePoint], TrainState]


class Checkpoints:
    """The checkpoints of one run, written in the background. Pass it to `fit` as `save`.

    A save that fails warns at the next save or `wait`; the training goes on, earlier saves stay.

    Args:
      folder: the folder of the checkpoints. It belongs to this run: the next save, or `restore`,
        deletes the remains of a save that was killed.
      settings: the values that determine the training, as JSON has them. `restore` refuses others.
      grows: the name of a setting that may be larger than when the checkpoint was saved.
      every: the number of steps between saves, counted by `state.step`; a save happens at the next
        end of a chunk (`fit(save_every=...)` ends one there). `"epoch"` saves after each epoch, and
        None only when `save` is called.
      keep: how many of the newest checkpoints to keep; at least 2 to survive a damaged one. Of each
        group of replicas that is finished the newest one stays.
      warn: receives the text of each warning.

    Raises:
      ValueError: if a number is not positive, or the settings are not JSON.

    Example:
      >>> import jaxconv, tempfile
      >>> net = jaxconv.classifier(jaxconv.create_model("dense"), jaxconv.rmsprop())
      >>> state = net.init(jax.random.key(0), (28, 28, 1))
      >>> data = jaxconv.load_dataset("mnist").train[:256]
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     with Checkpoints(folder, every="epoch") as saves:
      ...         state, _ = jaxconv.fit(net, state, data, epochs=2, batch_size=32, save=saves)
      ...     with Checkpoints(folder, every="epoch") as saves:
      ...         state, resume_point = saves.restore(state)
      ...         more = {"batch_size": 32, "resume": resume_point}
      ...         state, history = jaxconv.fit(net, state, data, epochs=3, **more)
      >>> resume_point.step, len(history)
      (16, 3)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        settings: Mapping[str, Any] | None = None,
        grows: str | None = None,
        every: int | Literal["epoch"] | None = None,
        keep: int = 2,
        warn: Callable[[str], None] = lambda text: print(f"WARNING: {text}", file=sys.stderr),
    ) -> None:
        if every is not None and every != "epoch":
            check_positive("every", every)
        check_positive("keep", keep)
        self.folder, self.failed = Path(folder), 0
        self.settings = json.loads(json.dumps(settings or {}, allow_nan=False))
        self._grows, self._every, self._keep, self._warn = grows, every, keep, warn
        self._last, self._due, self._mine = None, 0, False
        self._writer = ThreadPoolExecutor(1)
        self._saving: tuple[Path, Future[None]] | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._writer.shutdown()

    def __call__(self, state: TrainState, resume_point: ResumePoint) -> None:
        """Saves if `every` steps have passed, or the epoch has ended."""
        if isinstance(self._every, int):
            before, self._due = self._due, self._reached(state)
            due = self._due > before
        else:
            due = self._every == "epoch" and not resume_point.sums
        if due:
            self.save(state, resume_point)

    def _reached(self, state: TrainState) -> int:
        step = int(np.max(jax.device_get(state.step)))
        return step // self._every if isinstance(self._every, int) else 0

    def save(self, state: TrainState, resume_point: ResumePoint) -> None:
        """Copies the state and its resume point, and writes them in the background.

        Raises:
          FileExistsError: if the folder holds checkpoints and `restore` was not called.
        """
        if not self._mine and self.steps():
            raise FileExistsError(
                f"{self.folder} holds the checkpoints of another run: restore from them, or name "
                "another folder."
            )
        self.wait()
        if resume_point.step == self._last:
            return
        self._clean()
        first = resume_point.members.start
        path = self.folder / f"{resume_point.step}{f'-{first}' if first else ''}{ENDING}"
        content = to_object(resume_point) | {"settings": self.settings, "versions": _versions()}
        # On the host, and a copy: the training goes on in the state's memory.
        arrays = jax.tree.map(np.array, jax.device_get(named_arrays(state)))
        self._saving = path, self._writer.submit(self._write, path, arrays, content)
        self._last = resume_point.step

    def _write(
        self, path: Path, arrays: Mapping[str, np.ndarray], content: Mapping[str, Any]
    ) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_tensors(path, arrays, content)
        for own in self._groups().values():
            for old in own[: -self._keep if path in own else -1]:
                old.unlink(missing_ok=True)

    def wait(self) -> None:
        """Returns once the last save is on the disk, or has failed and given a warning."""
        if self._saving is None:
            return
        path, saved = self._saving
        error, self._saving = saved.exception(), None
        if error is not None:
            reason = str(error).strip().partition("\n")[0]
            self.failed, self._last = self.failed + 1, None
            self._clean()
            self._warn(
                f"THE CHECKPOINT {path} WAS NOT SAVED: {reason}. The training goes on; the last "
                f"good checkpoint is {(self.paths() or ['none'])[-1]}."
            )

    def steps(self) -> list[int]:
        """The steps of all checkpoints, good or damaged, oldest first."""
        return list(map(_step, self.paths()))

    def paths(self) -> list[Path]:
        """The files of all checkpoints, good or damaged, oldest first."""
        return sorted((path for own in self._groups().values() for path in own), key=_step)

    def _groups(self) -> dict[int, list[Path]]:
        """The files of each group of replicas by its first one, oldest first."""
        groups: dict[int, list[Path]] = {}
        for path in self.folder.glob(f"*{ENDING}"):
            if match := NAME.fullmatch(path.name):
                groups.setdefault(int(match[2] or 0), []).append(path)
        return {first: sorted(groups[first], key=_step) for first in sorted(groups)}

    def restore(self, template: Template) -> tuple[TrainState, ResumePoint]:
        """Reads the newest good checkpoint.

        One that is damaged or cannot be read prints a warning and is renamed to
        `damaged-STEP.safetensors`.

        Args:
          template: a state of the same shape, which gives the restored one its devices and its
            kind of key; or a function that returns such a state for a resume point.

        Returns:
          The state and its resume point.

        Raises:
          FileNotFoundError: if there is no good checkpoint; the folder is this run's all the same.
          ValueError: if the checkpoint has other settings, another version's format, or other
            arrays than the template. The message lists the differences. Nothing is renamed or
            deleted then.
        """
        return max(self.restore_groups(template), key=lambda found: found[1].step)

    def restore_groups(self, template: Template) -> list[tuple[TrainState, ResumePoint]]:
        """Reads the newest good checkpoint of each group of replicas, as `restore` does."""
        for old in self.folder.glob("[0-9]*/"):
            raise ValueError(
                f"{old} is a checkpoint of an older version of jaxconv: resume with that version, "
                "or begin anew in another folder."
            )
        damaged: list[Path] = []
        groups = self._groups()
        found = [x for own in groups.values() if (x := self._newest(own, template, damaged))]
        self._clean()
        for path in damaged:
            with contextlib.suppress(OSError):  # the warning has named it
                path.replace(path.with_name(f"damaged-{path.name}"))
        if not found:
            what = (
                "There is no good checkpoint in" if self.folder.is_dir() else "There is no folder"
            )
            raise FileNotFoundError(
                f"{what} {self.folder}: name the folder that `Checkpoints` saved to; a run's is "
                "its subfolder checkpoints."
            )
        newest = max((point for _, point in found), key=lambda point: point.step)
        self._last = newest.step
        return found

    def _newest(
        self, paths: list[Path], template: Template, damaged: list[Path]
    ) -> tuple[TrainState, ResumePoint] | None:
        for path in reversed(paths):
            try:
                shapes, content = read_header(path)
                resume_point = from_object(content)
                if resume_point.step != _step(path):
                    raise ValueError(f"its step is {resume_point.step}.")
                settings, versions = dict(content["settings"]), dict(content["versions"])
            except OtherFormatError as error:
                raise ValueError(f"{path} is {error}") from None
            except (KeyError, OSError, TypeError, ValueError) as error:
                self._warn(f"The checkpoint {path} is not used: {error}")
                damaged.append(path)
                continue
            if changed := self._changes(settings):
                raise ValueError(
                    f"{path} was saved by a run with other settings ({'; '.join(changed)}): "
                    "resume with the same ones, or begin anew in another folder."
                )
            like = template(resume_point) if callable(template) else template
            state = read_state(path, shapes, like)
            if changed := list_changes(versions, _versions()):
                self._warn(f"Saved elsewhere ({'; '.join(changed)}): bits may differ.")
            self._due = self._reached(state)
            return state, resume_point
        return None

    def _changes(self, settings: dict[str, Any]) -> list[str]:
        """The differences of a checkpoint's settings from the run's, but for one that has grown."""
        now = {name: x for name, x in self.settings.items() if name == self._grows}
        then = {name: settings.get(name) for name in now}
        if all(isinstance(then[name], int | float) and then[name] < x for name, x in now.items()):
            settings = settings | now
        return list_changes(settings, self.settings)

    def _clean(self) -> None:
        """Takes possession of the folder: deletes the remains of saves that were killed."""
        self._mine = True
        for leftover in self.folder.glob(f"[0-9]*{DRAFT}"):
            with contextlib.suppress(OSError):
                leftover.unlink()


def _step(path: Path) -> int:
    match = NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def _versions() -> dict[str, Any]:
    """The facts on which the bits of a training depend."""
    return {k: x for k, x in environment().items() if k not in ("python_version", "system")}
