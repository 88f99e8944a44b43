"""Training on a TFDS set that stays on the disk: grain reads the batches ahead, as they come.

A stream reads an epoch in the same order as a set in memory, `epoch_permutation`. So a streamed run
trains on the same batches, and resumes from its position in the epoch alone.
"""

import contextlib
import dataclasses
from collections.abc import Generator

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from jaxconv._checks import check_installed, check_natural
from jaxconv.data.arrays import Batch, Dataset, Split, check_split, validation_cut
from jaxconv.data.tfds import Source
from jaxconv.parallel import data_mesh, global_batch, process_rows

AHEAD = 16
"""How many batches each process or worker reads ahead of the training."""


class Stream:
    """Training samples of a TFDS set on the disk, never in memory as a whole; `fit` takes it.

    Args:
      source: the split.
      samples: how many of its first samples to train on; all when None.
      num_classes: how many classes the labels may name.
      workers: how many processes read ahead, each with its own Python, for sets whose decoding
        keeps the training waiting; with 0 a thread reads.
      mesh: the devices that divide a batch, from `parallel.data_mesh`; one device when None. Each
        of several processes reads only its own rows.

    Raises:
      ModuleNotFoundError: without grain.
      ValueError: if a number is negative or too large.
    """

    def __init__(
        self,
        source: Source,
        samples: int | None = None,
        *,
        num_classes: int,
        workers: int = 0,
        mesh: Mesh | None = None,
    ) -> None:
        check_natural("workers", workers)
        check_installed("stream")
        self._source, self._samples = source, len(source) if samples is None else samples
        if not 0 < self._samples <= len(source):
            raise ValueError(f"samples must be in [1, {len(source)}], not {samples}.")
        self._num_classes, self._workers = num_classes, workers
        self._mesh = data_mesh(1) if mesh is None else mesh
        self.identity = f"{source.identity} [:{self._samples}]"
        """Identifies these samples without reading them."""

    def __len__(self) -> int:
        return self._samples

    def batch(self, order: Int[np.ndarray, " samples"], batch_size: int, step: int) -> Batch:
        """Reads the batch of one step at once, and places it on the devices."""
        reader = self._reader(order, batch_size)
        return self._place(reader[step], reader.samples(step))

    def batches(
        self, order: Int[np.ndarray, " samples"], batch_size: int, start: int
    ) -> Generator[Batch, None, None]:
        """Reads ahead the batches of an epoch from step `start` on, and places them on the devices.

        Args:
          order: the order of the samples.
          batch_size: samples per batch; the last batch has those that are left.
          start: the first step.

        Raises:
          ValueError: for images of another size, or labels out of range.
        """
        import grain

        reader = self._reader(order, batch_size)
        ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=AHEAD)
        dataset = grain.MapDataset.source(reader)[start:].to_iter_dataset(ahead)
        if self._workers:
            _parse_flags()
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._workers))
        with contextlib.closing(iter(dataset)) as iterator:
            for step, fields in enumerate(iterator, start):
                yield self._place(fields, reader.samples(step))

    def _reader(self, order: Int[np.ndarray, " samples"], batch_size: int) -> "_BatchReader":
        rest = len(order) % batch_size
        own = {samples: process_rows(samples, self._mesh) for samples in (batch_size, rest)}
        return _BatchReader(self._source, np.asarray(order), batch_size, own, self._num_classes)

    def _place(self, fields: Batch, samples: int) -> Batch:
        return fields if self._mesh.size == 1 else global_batch(fields, samples, self._mesh)


@dataclasses.dataclass(frozen=True)
class _BatchReader:
    """Reads this process' rows of any batch of an epoch; grain may send it to a worker."""

    source: Source
    order: Int[np.ndarray, " samples"]
    batch_size: int
    own: dict[int, range]
    num_classes: int

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def samples(self, step: int) -> int:
        return min(self.batch_size, len(self.order) - step * self.batch_size)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        own, first = self.own[self.samples(index)], index * self.batch_size
        rows = self.order[first + own.start : first + own.stop]
        fields = self.source.read(rows if len(rows) else self.order[:1])  # one to pad with
        try:
            checked = check_split("train", fields["image"], fields["label"], self.num_classes)
        except ValueError as error:
            raise ValueError(f"{error} It is among the samples {rows.tolist()}.") from error
        return checked.batch()


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedDataset:
    """A data set whose training samples are streamed; the samples to evaluate are in memory."""

    name: str
    train: Stream
    test: Split
    num_classes: int
    validation: Split | None = None
    class_names: tuple[str, ...] | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of one image."""
        height, width, channels = self.test.image.shape[1:]
        return height, width, channels


def open_streamed(
    name: str,
    *,
    data_dir: str | None = None,
    validation_split: float = 0.0,
    workers: int = 0,
    mesh: Mesh | None = None,
) -> StreamedDataset:
    """Opens a TFDS set that is prepared on this disk, to stream its training samples.

    Args:
      name: `"tfds:NAME"`, as in `load_dataset`.
      data_dir: where TFDS keeps its sets; its own default when None.
      validation_split: share of the training samples, the last ones, to hold in memory for
        validation; `Dataset.split_validation` makes the same cut.
      workers: as in `Stream`.
      mesh: as in `Stream`.

    Raises:
      ModuleNotFoundError: without tensorflow-datasets or grain.
      FileNotFoundError: if TFDS has not prepared the set; the message names the command.
      ValueError: for a set that `load_dataset` would refuse, or one without a TFDS name or without
        a number of classes.

    Example:
      >>> open_streamed("mnist")
      Traceback (most recent call last):
      ValueError: Only a TFDS set on the disk can be streamed, tfds:NAME, not 'mnist'; ...

    Source: https://google-grain.readthedocs.io/en/latest/tutorials/dataset_basic_tutorial.html
    """
    if not name.startswith("tfds:"):
        raise ValueError(
            f"Only a TFDS set on the disk can be streamed, tfds:NAME, not {name!r}; "
            "jaxconv.data.tfds.prepare() writes the bundled MNIST as jaxconv_mnist."
        )
    train, test = (
        Source(name.removeprefix("tfds:"), split, data_dir) for split in ("train", "test")
    )
    if train.num_classes is None:
        raise ValueError(
            f"The TFDS set {name!r} does not name its number of classes (its label is not a "
            "ClassLabel), and only reading all labels would find it: load it without streaming."
        )
    cut = validation_cut(len(train), validation_split)
    tail = train.read(range(cut, len(train)) if validation_split else range(1))
    checked = Dataset.from_arrays(
        *tail.values(),
        *test.read(range(len(test))).values(),
        num_classes=train.num_classes,
        name=name,
    )
    classes = checked.num_classes
    return StreamedDataset(
        name,
        Stream(train, cut, num_classes=classes, workers=workers, mesh=mesh),
        checked.test,
        classes,
        checked.train if validation_split else None,
        train.class_names,
    )


def _parse_flags() -> None:
    """Marks absl's flags as parsed: grain's workers read them, and only `absl.app` parses them."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
