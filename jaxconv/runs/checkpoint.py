"""Checkpoints: a run resumes from one to the bit, and each is whole or absent.

A checkpoint is a folder, named by the number of steps taken. It holds `state/` (the arrays, as
Orbax writes them), `resume_point.json`, and `SHA256SUMS` over every byte of both, in the form that
`sha256sum -c` reads, because Orbax has no checksums. It is written under another name and renamed
once it is on the disk. Reading one executes nothing, and checks the size of each array before it
reads the array.
"""

import concurrent.futures
import contextlib
import json
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv._checks import check_positive
from jaxconv.measure.environment import environment
from jaxconv.runs._checksums import check_sums, sync, write_sums
from jaxconv.runs._resume_point import OtherFormatError, from_json, to_json
from jaxconv.training.state import ResumePoint, TrainState

STATE, RESUME_POINT = "state", "resume_point.json"
VERSIONS = (
    "backend", "cpu", "cpu_count", "device_count", "device_kind", "flax_version", "jax_version",
    "jaxlib_version", "optax_version", "xla_flags",
)  # fmt: skip
"""The facts on which the bits of a training depend."""
MAX_BYTES = 2**26
"""The most bytes of `resume_point.json`, and of each file that Orbax writes beside the arrays."""
_LOCK = threading.Lock()  # the whole process shares the logger that is silenced for Orbax

Template = TrainState | Callable[[ResumePoint], TrainState]


class Checkpoints:
    """The checkpoints of one run, written in the background. Pass it to `fit` as `save`.

    A save that fails prints a warning, and the training goes on: earlier checkpoints stay.

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
      >>> data = jax.tree.map(lambda x: x[:256], jaxconv.load_dataset("mnist").train.batch())
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
        self._writer = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._writing: concurrent.futures.Future[None] | None = None

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
        if resume_point.step == self._last:
            return
        self.wait()
        if not self._mine:
            self._clean()
        arrays = _arrays_of(state)
        text = to_json(resume_point, settings=self.settings, versions=_versions())
        self._last = resume_point.step
        self._writing = self._writer.submit(self._write, str(resume_point.step), arrays, text)

    def wait(self) -> None:
        """Returns once the last save is on the disk or has failed."""
        if self._writing is not None:
            self._writing.result()

    def steps(self) -> list[int]:
        """The steps of all checkpoints, good or damaged, oldest first."""
        names = [path.name for path in self.folder.glob("[0-9]*") if path.is_dir()]
        return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)

    def _clean(self) -> None:
        """Takes possession of the folder: deletes the remains of saves that were killed."""
        self._mine = True
        for leftover in self.folder.glob(".[0-9]*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)

    def restore(self, template: Template) -> tuple[TrainState, ResumePoint] | None:
        """Reads the newest good checkpoint.

        A damaged one prints a warning and is renamed to `damaged-STEP`.

        Args:
          template: a state of the same shape, which gives the restored one its devices and its
            kind of key; or a function that returns such a state for a resume point.

        Returns:
          The state and its resume point; None if there is no good checkpoint.

        Raises:
          ValueError: if the checkpoint has other settings, another version's format, or other
            arrays than the template. The message lists the differences. Nothing is renamed or
            deleted then.
        """
        damaged = []
        for step in reversed(self.steps()):
            path = self.folder / str(step)
            try:
                check_sums(path)
                resume_point, more = from_json(_read_text(path / RESUME_POINT))
                settings, versions = dict(more["settings"]), dict(more["versions"])
                if resume_point.step != step:
                    raise ValueError(f"its step is {resume_point.step}.")
            except OtherFormatError as error:
                raise ValueError(f"{path} is {error}") from None
            except OSError as error:
                self._warn(f"The checkpoint {path} cannot be read and is not used: {error}")
                continue
            except (KeyError, TypeError, ValueError) as error:
                self._warn(f"The checkpoint {path} is damaged and not used: {error}")
                damaged.append(path)
                continue
            if changed := list_changes(settings, self.settings):
                raise ValueError(
                    f"{path} was saved by a run with other settings ({'; '.join(changed)}): "
                    "resume with the same ones, or begin anew in another folder."
                )
            state = _read(path / STATE, template(resume_point) if callable(template) else template)
            if changed := list_changes(versions, _versions()):
                self._warn(f"Saved elsewhere ({'; '.join(changed)}): bits may differ.")
            self._last, self._due = resume_point.step, self._reached(state)
            break
        else:
            state = resume_point = None
        self._clean()
        for path in damaged:
            with contextlib.suppress(OSError):
                _put_aside(path)
        return None if state is None or resume_point is None else (state, resume_point)

    def _write(self, name: str, arrays: Mapping[str, np.ndarray], text: str) -> None:
        path, draft = self.folder / name, self.folder / f".{name}.tmp"
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            _check_space(draft, [x.nbytes for x in arrays.values()])
            if len(text) > MAX_BYTES:
                raise ValueError(f"its {RESUME_POINT} would have {len(text)} bytes.")
            with _orbax() as (ocp, checkpointer):
                checkpointer.save(draft.absolute() / STATE, args=ocp.args.PyTreeSave(dict(arrays)))
            (draft / RESUME_POINT).write_text(text)
            write_sums(draft)
            if path.exists():  # a checkpoint that could not be read
                _put_aside(path)
            draft.rename(path)
            sync(self.folder)
        except Exception as error:  # Orbax and TensorStore raise nearly anything
            shutil.rmtree(draft, ignore_errors=True)
            self.failed, self._last = self.failed + 1, None
            reason = str(error).strip().partition("\n")[0]
            self._warn(
                f"THE CHECKPOINT {path} WAS NOT SAVED: {reason}. The training goes on; the last "
                f"good checkpoint is {max(self.steps(), default='none')}."
            )
            return
        for step in self.steps()[: -self._keep]:
            # If the process is killed here, `_clean` deletes this name later.
            old = self.folder / f".{step}.tmp"
            try:
                shutil.rmtree(old, ignore_errors=True)
                (self.folder / str(step)).rename(old)
                shutil.rmtree(old)
            except OSError as error:
                self._warn(f"The old checkpoint {self.folder / str(step)} stays: {error}")


def _arrays_of(state: TrainState) -> dict[str, np.ndarray]:
    """Copies by name on the host, keys as their data, without empty arrays (Orbax has none)."""
    names = _named(state)
    host = jax.device_get({name: _raw(x) for name, x in names.items()})
    return {name: np.array(x) for name, x in host.items() if x.size}


def _named(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"Two arrays of the state are called {twice}: rename one.")
    return {quote(name, safe=""): x for name, (_, x) in zip(names, leaves, strict=True)}


def _raw(x: jax.Array) -> jax.Array:
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def _read(path: Path, template: TrainState) -> TrainState:
    names = _named(template)
    wanted = {name: jax.eval_shape(_raw, x) for name, x in names.items() if x.size}
    try:
        _check_arrays(path, wanted)
        empty = {name: np.empty(x.shape, x.dtype) for name, x in wanted.items()}
        with _orbax() as (ocp, checkpointer):
            how = ocp.checkpoint_utils.construct_restore_args(empty)
            arguments = ocp.args.PyTreeRestore(empty, restore_args=how)
            arrays = checkpointer.restore(path.absolute(), args=arguments)
        for name, x in wanted.items():
            if (arrays[name].shape, arrays[name].dtype) != (x.shape, x.dtype):
                raise ValueError(f"{name} was read as {arrays[name].shape} {arrays[name].dtype}.")
    except Exception as error:  # Orbax and TensorStore raise nearly anything
        raise ValueError(f"{path} cannot be read: {error}") from error

    def leaf(name: str, like: jax.Array) -> jax.Array:
        if name not in arrays:
            return like
        array = jnp.asarray(arrays[name])
        if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
            array = jax.random.wrap_key_data(array, impl=jax.random.key_impl(like))
        committed = getattr(like, "committed", False)
        return jax.device_put(array, like.sharding) if committed else array

    leaves = [leaf(name, like) for name, like in names.items()]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _check_arrays(path: Path, wanted: Mapping[str, Any]) -> None:
    """Refuses all but the wanted arrays, each uncompressed in one file of its exact size."""
    for file in path.iterdir():
        if file.suffix == ".ocdbt":
            raise ValueError("its arrays are in a database.")
        if file.is_file() and file.stat().st_size > MAX_BYTES:
            raise ValueError(f"{file.name} has {file.stat().st_size} bytes.")
        if file.is_dir() and not (file / ".zarray").is_file():
            raise ValueError(f"{file.name} is not an array.")
    found = {}
    for file in path.glob("*/.zarray"):
        name, array = file.parent.name, json.loads(_read_text(file))
        found[name] = f"{tuple(array['shape'])} {np.dtype(array['dtype'])}"
        if array["compressor"] is not None or array["filters"] is not None:
            raise ValueError(f"{name} is compressed.")
        if array["chunks"] != array["shape"]:
            raise ValueError(f"{name} is cut into chunks of {array['chunks']}.")
    expected = {name: f"{x.shape} {np.dtype(x.dtype)}" for name, x in wanted.items()}
    for name in sorted(found.keys() | expected.keys()):
        has, wants = (arrays.get(name, "missing") for arrays in (found, expected))
        if has != wants:
            raise ValueError(f"{name} is {has}, but the state's is {wants}.")
        chunk = ".".join("0" * wanted[name].ndim) or "0"
        if extra := {file.name for file in (path / name).iterdir()} - {".zarray", chunk}:
            raise ValueError(f"{name} has more than its array: {', '.join(sorted(extra))}.")
        size = (path / name / chunk).stat().st_size
        if size != wanted[name].size * wanted[name].dtype.itemsize:
            raise ValueError(f"{name} has {size} bytes, which is not {wants}.")


@contextlib.contextmanager
def _orbax() -> Iterator[tuple[Any, Any]]:
    """Yields Orbax and a checkpointer that writes plain files, as large as the arrays."""
    import orbax.checkpoint as ocp

    logger = logging.getLogger("absl")  # Orbax raises what matters, and we print it
    # The first process writes alone: each process has the whole state.
    here = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=here, active_processes={here})
    handler = ocp.PyTreeCheckpointHandler(
        use_ocdbt=False, use_compression=False, multiprocessing_options=alone
    )
    with _LOCK:
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
                yield ocp, checkpointer
        finally:
            logger.setLevel(level)


def _read_text(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes.")
    return path.read_text()


def _check_space(folder: Path, sizes: Sequence[int]) -> None:
    """Raises OSError if files of these sizes do not fit.

    Orbax would raise it too, but its pending writes then print tracebacks of their own.
    """
    scratch = folder / "space"
    scratch.mkdir()
    for i, size in enumerate(sizes if hasattr(os, "posix_fallocate") else ()):
        with (scratch / str(i)).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    shutil.rmtree(scratch)


def _versions() -> dict[str, Any]:
    facts = environment()
    return {name: facts[name] for name in VERSIONS}


def list_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lists in words how two mappings differ.

    Example:
      >>> list_changes({"seed": 1, "epochs": 5}, {"seed": 2, "epochs": 5})
      ['seed: 1 then, 2 now']
    """
    return [
        f"{name}: {old.get(name)!r} then, {new.get(name)!r} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _put_aside(path: Path) -> None:
    aside = path.with_name(f"damaged-{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
