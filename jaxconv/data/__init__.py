"""The data that a net learns from: arrays in memory, TFDS sets, streams; and digits to ask about.

The room may import `models`, `parallel`, `measure` and `_checks`; none of its files may import
this door.
"""

from jaxconv._checks import check_choice
from jaxconv.data.arrays import Batch as Batch
from jaxconv.data.arrays import Dataset as Dataset
from jaxconv.data.arrays import Split as Split
from jaxconv.data.digits import prepare_digit as prepare_digit
from jaxconv.data.mnist import bundled_mnist
from jaxconv.data.stream import Stream as Stream
from jaxconv.data.stream import StreamedDataset as StreamedDataset
from jaxconv.data.stream import open_streamed as open_streamed
from jaxconv.data.tfds import load as load_tfds


def load_dataset(name: str = "mnist", *, data_dir: str | None = None) -> Dataset:
    """Loads a data set by name. Nothing is ever downloaded.

    Args:
      name: `"mnist"`, the bundled set: 60,000 training and 10,000 test images, uint8
        `[28, 28, 1]`, in the order of `keras.datasets.mnist`; or `"tfds:NAME"`, an image
        classification set that TFDS has already prepared on this disk.
      data_dir: where TFDS keeps its sets; its own default when None. Not for `"mnist"`.

    Raises:
      ValueError: for an unknown name, a damaged bundled file, or a TFDS set without fixed-size
        images and integer labels.
      FileNotFoundError: if TFDS has not prepared the set; the message names the command.
      ModuleNotFoundError: for `"tfds:NAME"` without tensorflow-datasets.

    Example:
      >>> data = load_dataset("mnist")
      >>> data.train.image.shape, str(data.train.image.dtype), data.train.label[:5].tolist()
      ((60000, 28, 28, 1), 'uint8', [5, 0, 4, 1, 9])

    Source: http://yann.lecun.com/exdb/mnist/ (CC BY-SA 3.0)
    """
    if name.startswith("tfds:"):
        return load_tfds(name.removeprefix("tfds:"), data_dir=data_dir)
    check_choice("data set", name, ("mnist", "tfds:NAME"))
    if data_dir is not None:
        raise ValueError(
            f'"mnist" comes with the package; data_dir={data_dir!r} is for "tfds:NAME" sets.'
        )
    return bundled_mnist()
