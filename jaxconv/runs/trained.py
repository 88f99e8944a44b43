"""The trained net of a run: kept in one file, `model.safetensors`, loaded in one line."""

import dataclasses
import functools
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Shaped

from jaxconv.inspection.summary import summary
from jaxconv.measure.environment import environment
from jaxconv.models import Model, as_linen
from jaxconv.runs._rebuild import FORMAT, check_arrays, read_fields, rebuild, settings_of, shapes_of
from jaxconv.runs.files import read_json, read_rows
from jaxconv.runs.folder import METRICS, MODEL, RESULT
from jaxconv.runs.tensors import read_header, read_tensors, write_tensors
from jaxconv.training import Classifier, TrainState, classifier, predict


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A trained net, or the nets of several seeds, with all that using it needs.

    `load_run` reads one from a run; `save` keeps one of your own.

    Example:
      >>> import jaxconv, tempfile
      >>> model, data = jaxconv.create_model("dense"), jaxconv.load_dataset("mnist")
      >>> net = jaxconv.classifier(model, jaxconv.rmsprop())
      >>> state = net.init(jax.random.key(0), data.input_shape)
      >>> state, _ = jaxconv.fit(net, state, data.train[:640], epochs=1, batch_size=64)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     Trained(model, (state,), data.input_shape).save(folder + "/mine.safetensors")
      ...     trained = load_run(folder + "/mine.safetensors")
      >>> trained.predict(data.test.image[:1]).argmax()
      np.int64(7)
    """

    model: nn.Module
    """The Linen module."""
    states: tuple[TrainState, ...]
    """A state for each seed; a loaded one has no `opt_state`."""
    input_shape: tuple[int, int, int]
    """`(height, width, channels)` of one image."""
    input_dtype: str = "uint8"
    """The images' dtype in training; `predict` divides uint8 by 255 and leaves floats alone."""
    class_names: tuple[str, ...] | None = None
    """The classes' names, if they have some."""
    dataset: str = "arrays"
    """The name of the data set."""
    experiment: str | None = None
    """The experiment that trained the net."""
    seeds: tuple[int, ...] = (0,)
    """The seed of each state."""
    test_accuracy: tuple[float | None, ...] | None = None
    """Each state's accuracy on the test samples; None for one that diverged."""
    versions: Mapping[str, Any] = dataclasses.field(default_factory=environment)
    """The versions and the machine that trained the net."""
    result: Mapping[str, Any] | None = None
    """The content of the run's `result.json`; None where a single file was loaded."""
    history: Sequence[Mapping[str, float]] = ()
    """The rows of the run's `metrics.jsonl`, one for each seed and epoch."""

    @property
    def state(self) -> TrainState:
        """The first state."""
        return self.states[0]

    @property
    def kept(self) -> list[int]:
        """The places in `states` of the nets that did not diverge; of all if all did."""
        accuracies = self.test_accuracy or (0.0,) * len(self.states)
        kept = [i for i, x in enumerate(accuracies) if x is not None]
        return kept or list(range(len(self.states)))

    @functools.cached_property
    def num_classes(self) -> int:
        """The number of classes."""
        return shapes_of(self.model, self.input_shape)[1].shape[-1]

    @functools.cached_property
    def net(self) -> Classifier:
        """The model as `evaluate` and `predict` take it; its `train_step` does not learn."""
        return classifier(self.model, optax.identity())

    def predict(
        self,
        images: Shaped[Array | np.ndarray, "samples height width channels"],
        *,
        members: Sequence[int] | None = None,
        batch_size: int = 200,
    ) -> Float[np.ndarray, "samples classes"]:
        """Computes class probabilities, averaged over the nets of several seeds.

        Args:
          images: images of the kind that the net was trained on.
          members: the places in `states` of the nets to average; by default all that did not
            diverge.
          batch_size: samples at a time.

        Raises:
          ValueError: for images of another shape or kind, or a member that there is not.

        Example:
          >>> import jaxconv
          >>> model = jaxconv.create_model("dense")
          >>> net = jaxconv.classifier(model, jaxconv.rmsprop())
          >>> states = tuple(net.init(jax.random.key(seed), (28, 28, 1)) for seed in (0, 1))
          >>> trained = Trained(model, states, (28, 28, 1), seeds=(0, 1))
          >>> trained.predict(np.zeros((3, 28, 28, 1), np.uint8)).shape
          (3, 10)
        """
        if images.shape[1:] != tuple(self.input_shape):
            wanted = ", ".join(map(str, self.input_shape))
            raise ValueError(
                f"The net takes images [N, {wanted}], not {images.shape}: add or move axes, such "
                "as images[None, :, :, None] for one grey image."
            )
        if images.dtype == np.uint8 and self.input_dtype != "uint8":
            raise ValueError(
                f"The net was trained on {self.input_dtype} images as they are, and these are "
                "uint8: prepare them as those were."
            )
        if members is None:
            members = self.kept
        if not members or not all(0 <= i < len(self.states) for i in members):
            raise ValueError(
                f"members must be places in the {len(self.states)} states, not {members!r}."
            )
        found = (predict(self.net, self.states[i], images, batch_size=batch_size) for i in members)
        return np.mean([np.asarray(x, np.float32) for x in found], axis=0)

    def summary(self) -> None:
        """Prints the layers, as `jaxconv.summary` does."""
        summary(self.model, self.input_shape)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the nets to a safetensors file, which appears whole or not at all.

        The arrays are `params/LAYER/kernel` and so on, of several seeds stacked; the rest is in the
        metadata. A module other than `ConvNet` is named, and to be passed to `load_run`.

        Raises:
          OSError: if the file cannot be written.
        """
        trees = [{"params": x.params, "batch_stats": x.batch_stats} for x in self.states]
        one, *more = jax.device_get(trees)
        arrays = jax.tree.map(lambda *x: np.stack(x), one, *more) if more else one
        named: dict[str, Any] = flatten_dict(arrays, sep="/")
        content = {
            "format": FORMAT,
            "module": type(self.model).__name__,
            "settings": settings_of(self.model),
            "steps": [int(x.step) for x in self.states],
            "preprocessing": "uint8 pixels are divided by 255; floating-point pixels stay",
        }
        for field in dataclasses.fields(self):
            if field.name not in ("model", "states", "result", "history"):
                content[field.name] = getattr(self, field.name)
        write_tensors(Path(path), named, content)


def load_run(path: str | os.PathLike[str], model: Model | None = None) -> Trained:
    """Loads the trained net of a run, or of the file of one. Nothing in the file is executed.

    Args:
      path: the run's folder, such as `"runs/lab6-0-1"`, or its `model.safetensors`.
      model: the module, for a net of your own; `ConvNet` is rebuilt from the file.

    Raises:
      FileNotFoundError: if there is no such file: the run is not finished, or of an older version.
      ModuleNotFoundError: without safetensors.
      ValueError: if the file is damaged, holds another net than `model`, or one that is not ours
        and no `model` is given.

    Source: https://huggingface.co/docs/safetensors
    """
    if not importlib.util.find_spec("safetensors"):
        raise ModuleNotFoundError(
            "Not installed: safetensors. Install with: pip install safetensors"
        )
    folder = Path(path) if Path(path).is_dir() else None
    given = Path(path) if folder is None else folder / MODEL
    if not given.exists():
        raise FileNotFoundError(
            f"There is no {given}: name the folder of a run that is finished (one that was "
            "interrupted goes on with --resume)."
        )
    shapes, content = read_header(given)
    own = rebuild(given, content, shapes) if model is None else as_linen(model)
    fields, steps = read_fields(given, content)
    check_arrays(given, own, shapes, fields, len(steps))
    variables = {"params": {}, "batch_stats": {}} | unflatten_dict(read_tensors(given), sep="/")
    states = tuple(
        TrainState(
            jnp.int32(step),
            opt_state=(),
            rng=jax.random.key(seed),
            **jax.tree.map(lambda x, i=i: jnp.asarray(x[i] if len(steps) > 1 else x), variables),
        )
        for i, (step, seed) in enumerate(zip(steps, fields["seeds"], strict=True))
    )
    if folder is None:
        return Trained(own, states, **fields)
    result = read_json(folder / RESULT) if (folder / RESULT).exists() else None
    history = read_rows(folder / METRICS) if (folder / METRICS).exists() else []
    return Trained(own, states, **fields, result=result, history=history)
