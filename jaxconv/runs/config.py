"""The settings of a run, nested by what they decide; on the command line they are flat.

All but `run` and `parallel` decide the result.
"""

import dataclasses
from typing import Any, Literal

from jaxconv._checks import check_choice, check_natural
from jaxconv.data import Augment, compose, erase, warp


@dataclasses.dataclass(frozen=True)
class Training:
    """How long, and in which steps."""

    epochs: int
    """The number of epochs to train."""
    batch_size: int
    """The number of samples in a step; the last step of an epoch takes the remainder."""
    learning_rate: float
    """The learning rate of the optimizer; of a schedule the largest."""
    schedule: Literal["constant", "cosine", "onecycle", "warmup-cosine"] = "constant"
    """How the learning rate moves from the first step to the last."""
    weight_decay: float = 0.0
    """Subtract so much of the parameters, times the learning rate, in each step, as Keras does."""
    global_clipnorm: float | None = None
    """Scale the gradients to this norm at most, all together, as Keras does."""
    ema_momentum: float | None = None
    """Average the weights, as Keras' use_ema; the average is validated, tested and kept."""
    early_stopping: int | None = None
    """End when the loss on the validation split has not fallen for so many epochs."""
    restore_best: bool = False
    """Keep the net of the epoch with the lowest loss on the validation split."""
    label_smoothing: float = 0.0
    """Spread so much of each label over all classes, in the loss of training and evaluation."""


@dataclasses.dataclass(frozen=True)
class Seeds:
    """One training or many."""

    seed: int = 0
    """The seed of the root key, which decides the initial parameters, shuffles and dropout."""
    seeds: str | None = None
    """Train a replica for each seed: give their number, from --seed on, or a list, 3,7,11."""
    strategy: Literal["map", "vmap"] | None = None
    """Train replicas one by one (map) or in one program (vmap). Without it, the backend decides."""
    group: int | None = None
    """The most replicas that one program trains. Without it, the backend decides."""


@dataclasses.dataclass(frozen=True)
class Data:
    """What the net learns from."""

    dataset: str = "mnist"
    """The data set: mnist (bundled), tfds:NAME, npz:FILE, idx:DIR, or folder:DIR (of pictures)."""
    image_size: str | None = None
    """Resize all pictures of a folder:DIR: a side such as 64, or HEIGHT,WIDTH."""
    test_split: float | None = None
    """The share of each class to test on, for a folder:DIR without folders train and test."""
    validation_split: float = 0.0
    """The share of the training samples, taken from the end, on which each epoch is validated."""
    stream: bool = False
    """Read the training samples of a tfds:NAME set from the disk, not from memory."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How training changes its images at random; 0 leaves each change out."""

    rotation: float = 0.0
    """Rotate each training image by up to so many degrees to either side."""
    zoom: float = 0.0
    """Scale height and width of each training image by up to this share."""
    shear: float = 0.0
    """Let the columns of each training image lean by up to so many degrees to either side."""
    shift: float = 0.0
    """Shift each training image within this share of its empty margin."""
    elastic: float = 0.0
    """Deform each training image by so many pixels (standard deviation)."""
    erase: int = 0
    """Set a square of this side, in pixels, to 0 in each training image."""

    def function(self) -> Augment | None:
        """Makes the augmentation; None if all is left out.

        Raises:
          ValueError: if a number is out of its range.

        Example:
          >>> Augmentation().function() is None
          True
        """
        check_natural("erase", self.erase)
        moves = {field: x for field, x in dataclasses.asdict(self).items() if field != "erase"}
        warped = warp(**moves)  # refuses numbers out of their range
        parts = [warped] if any(moves.values()) else []
        parts += [erase(self.erase)] if self.erase else []
        return compose(*parts) if parts else None


@dataclasses.dataclass(frozen=True)
class Model:
    """What may vary in a net: nothing. An experiment's own class adds fields."""


@dataclasses.dataclass(frozen=True)
class ConvModel(Model):
    """What may vary in a convnet."""

    padding: int | str = "valid"
    """The padding of the convolutions: valid, same, or a number of zeros on each side."""
    batch_norm: bool = False
    """Put BatchNorm between each convolution and its activation."""
    global_pool: bool = False
    """Average each feature map over its positions, in place of Flatten."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Where the files lie, and what is printed."""

    output_dir: str | None = None
    """The run's folder. Without it, the next free runs/EXPERIMENT-SEED-N (or -3seeds-N)."""
    overwrite: bool = False
    """Replace the run in --output-dir and the file that --export-keras names."""
    resume: bool = False
    """Resume the run in --output-dir, or the newest of this seed in runs/; --epochs may grow."""
    save_every: int | Literal["epoch"] | None = None
    """Save after so many steps, or each epoch (epoch). At its end a run always saves."""
    keep: int = 2
    """The number of newest checkpoints to keep; at least 2 survive a damaged one."""
    init_from: str | None = None
    """Start from the net in a run's folder, or in Keras' NAME.weights.h5 or NAME.keras."""
    export_keras: str | None = None
    """Also write the trained weights for Keras, to NAME.weights.h5."""
    target_accuracy: float | None = None
    """End with exit code 1 if the test accuracy, of several seeds its mean, is lower."""
    data_dir: str | None = None
    """The folder of the TFDS data sets, for tfds:NAME, if TFDS does not use its own."""
    compilation_cache: bool = True
    """Compile every program anew. Without it, the user's cache folder keeps them."""
    quiet: bool = False
    """Print only the result."""


@dataclasses.dataclass(frozen=True)
class Parallel:
    """On which devices and processes, and how they compute."""

    devices: int | None = None
    """The number of devices that share each batch (1; under a launcher, all of each process)."""
    processes: int | None = None
    """The number of processes that train together. Without it, the launcher's number, or 1."""
    process_id: int | None = None
    """The number of this process, from 0. Without it, the launcher gives the number."""
    coordinator: str | None = None
    """The address of the first process, HOST:PORT. Without it, the launcher gives the address."""
    workers: int = 0
    """The number of processes that read the stream ahead; 0 uses a thread."""
    deterministic: bool = False
    """Ask XLA for deterministic operations on a GPU, which make a resumed run exact there."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a run.

    Example:
      >>> config = Config(Training(epochs=5, batch_size=64, learning_rate=1e-3))
      >>> config.replace(epochs=1, quiet=True).training.epochs
      1
    """

    training: Training
    seeds: Seeds = Seeds()
    data: Data = Data()
    augmentation: Augmentation = Augmentation()
    model: Model = Model()
    run: Run = Run()
    parallel: Parallel = Parallel()

    def replace(self, **settings: Any) -> "Config":
        """Returns the same settings, but for those given by their names.

        Args:
          **settings: values by the names of the command line, in whichever group they are.

        Raises:
          ValueError: if no group has a setting of that name.
        """
        groups = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        owners = {field.name: name for name, x in groups.items() for field in dataclasses.fields(x)}
        for name, value in settings.items():
            check_choice("setting", name, owners)
            owner = owners[name]
            groups[owner] = dataclasses.replace(groups[owner], **{name: value})
        return dataclasses.replace(self, **groups)
