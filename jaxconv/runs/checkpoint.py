"""Checkpoints: a run resumes from one to the bit, and each is whole or absent.

Orbax' `CheckpointManager` names them, writes them in the background, renames each once it is whole,
and deletes the old ones. It has no checksums, and believes the sizes that a file declares: these
two promises, the resume point and the refusal of what does not fit are ours. A checkpoint is a
folder, named by the number of steps taken: `state/` has the arrays, `resume_point.json` the rest,
and `SHA256SUMS` the sums of both, as `sha256sum -c` reads them.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from jaxconv._checks import check_positive, list_changes
from jaxconv.measure.environment import environment
from jaxconv.runs._checksums import check_sums, sync, write_sums
from jaxconv.runs._orbax import MAX_BYTES, STATE, UNFINISHED, open_manager, read_state, save_state
from jaxconv.runs._resume_point import OtherFormatError, from_json, to_json
from jaxconv.training import ResumePoint, TrainState

RESUME_POINT = "resume_point.json"

Template = TrainState | Callable[[ResumePoint], TrainState]


class Checkpoints:
    """The checkpoints of one run, written in the background. Pass it to `fit` as `save`.

    A save that fails warns at the next save or `wait`; the training goes on, earlier saves stay.

    Args:
      folder: the folder of the checkpoints. It belongs to this run: the next save, or `restore`,
        deletes the remains of a save that was killed.
      settings: the values that determine the training, as JSON has them. `restore` refuses others.
      every: the number of steps between saves, counted by `state.step`; a save happens at the next
        end of a chunk (`fit(save_every=...)` ends one there). `"epoch"` saves after each epoch, and
        None only when `save` is called.
      keep: how many of the newest checkpoints to keep; at least 2 to survive a damaged one.
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

    Source: https://orbax.readthedocs.io/en/latest/guides/checkpoint/orbax_checkpoint_101.html
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        settings: Mapping[str, Any] | None = None,
        every: int | Literal["epoch"] | None = None,
        keep: int = 2,
        warn: Callable[[str], None] = lambda text: print(f"WARNING: {text}", file=sys.stderr),
    ) -> None:
        if every is not None and every != "epoch":
            check_positive("every", every)
        check_positive("keep", keep)
        self.folder, self.failed = Path(folder), 0
        self.settings = json.loads(json.dumps(settings or {}, allow_nan=False))
        self._every, self._keep, self._warn = every, keep, warn
        self._last, self._due, self._mine = None, 0, False
        self._manager, self._saving = None, (0, "")

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        if self._manager is not None:
            self._manager.close()

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
        text = to_json(resume_point, settings=self.settings, versions=_versions())
        self._saving = resume_point.step, text
        try:
            if self._manager is None:
                self._manager = open_manager(self.folder, self._keep, self._complete)
            save_state(self._manager, resume_point.step, state)
            self._last = resume_point.step
        except Exception as error:  # Orbax and TensorStore raise nearly anything
            self._fail(error)

    def wait(self) -> None:
        """Returns once the last save is on the disk, or has failed and given a warning."""
        if self._manager is not None:
            try:
                self._manager.wait_until_finished()
                sync(self.folder)
            except Exception as error:
                self._fail(error)

    def steps(self) -> list[int]:
        """The steps of all checkpoints, good or damaged, oldest first."""
        names = [path.name for path in self.folder.glob("[0-9]*") if path.is_dir()]
        return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)

    def restore(self, template: Template) -> tuple[TrainState, ResumePoint]:
        """Reads the newest good checkpoint.

        One that is damaged or cannot be read prints a warning and is renamed to `damaged-STEP`.

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
        found, damaged = None, []
        for step in reversed(self.steps()):
            path = self.folder / str(step)
            try:
                check_sums(path)
                resume_point, more = from_json(_read_text(path / RESUME_POINT))
                if resume_point.step != step:
                    raise ValueError(f"its step is {resume_point.step}.")
                settings, versions = dict(more["settings"]), dict(more["versions"])
            except OtherFormatError as error:
                raise ValueError(f"{path} is {error}") from None
            except (KeyError, OSError, TypeError, ValueError) as error:
                self._warn(f"The checkpoint {path} is damaged and not used: {error}")
                damaged.append(path)
                continue
            if changed := list_changes(settings, self.settings):
                raise ValueError(
                    f"{path} was saved by a run with other settings ({'; '.join(changed)}): "
                    "resume with the same ones, or begin anew in another folder."
                )
            like = template(resume_point) if callable(template) else template
            found = read_state(path / STATE, like), resume_point
            if changed := list_changes(versions, _versions()):
                self._warn(f"Saved elsewhere ({'; '.join(changed)}): bits may differ.")
            self._last, self._due = step, self._reached(found[0])
            break
        self._clean()
        for path in damaged:
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            with contextlib.suppress(OSError):  # the warning has named it
                path.rename(aside)
        if found is None:
            what = (
                "There is no good checkpoint in" if self.folder.is_dir() else "There is no folder"
            )
            raise FileNotFoundError(
                f"{what} {self.folder}: name the folder that `Checkpoints` saved to; a run's is "
                "its subfolder checkpoints."
            )
        return found

    def _clean(self) -> None:
        """Takes possession of the folder: deletes the remains of saves that were killed."""
        self._mine = True
        for leftover in self.folder.glob(f"*{UNFINISHED}"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _complete(self) -> None:
        """Adds what is ours, in the background, to the folder that Orbax is about to rename."""
        step, text = self._saving
        draft = self.folder / f"{step}{UNFINISHED}"
        if len(text) > MAX_BYTES:
            raise ValueError(f"its {RESUME_POINT} would have {len(text)} bytes.")
        (draft / RESUME_POINT).write_text(text)
        write_sums(draft)

    def _fail(self, error: Exception) -> None:
        path, reason = self.folder / str(self._saving[0]), str(error).strip().partition("\n")[0]
        self.failed, self._last, self._manager = self.failed + 1, None, None
        self._clean()
        self._warn(
            f"THE CHECKPOINT {path} WAS NOT SAVED: {reason}. The training goes on; the last "
            f"good checkpoint is {max(self.steps(), default='none')}."
        )


def _versions() -> dict[str, Any]:
    """The facts on which the bits of a training depend."""
    return {k: x for k, x in environment().items() if k not in ("python_version", "system")}


def _read_text(path: Path) -> str:
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path.name} has {size} bytes.")
    return path.read_text()
