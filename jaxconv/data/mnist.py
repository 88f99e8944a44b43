"""The MNIST that comes with the package, and a TFDS builder that keeps its order."""

import functools
import hashlib
import importlib.resources
import io
from typing import ClassVar

import numpy as np

from jaxconv.data.arrays import Dataset

MNIST_SHA256 = "ee068f36682cba7f38bafdedc77b0f873ebbcf877036f7ebde566966146ac146"


@functools.cache
def bundled_mnist() -> Dataset:
    """Reads the 60,000 training and 10,000 test images, uint8 `[28, 28, 1]`, in Keras' order.

    A process reads them once: all its callers share these arrays, which nobody can write to.

    Raises:
      ValueError: if the bundled file is damaged.

    Example:
      >>> len(bundled_mnist().test)
      10000
    """
    content = importlib.resources.files("jaxconv").joinpath("_data/mnist.npz").read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != MNIST_SHA256:
        raise ValueError(
            f"The bundled mnist.npz is damaged: its SHA-256 is {found}, not {MNIST_SHA256}. "
            "Reinstall the package."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        data = Dataset.from_arrays(
            arrays["x_train"][..., None],
            arrays["y_train"],
            arrays["x_test"][..., None],
            arrays["y_test"],
            num_classes=10,
            name="mnist",
        )
    for split in (data.train, data.test):
        split.image.setflags(write=False)
        split.label.setflags(write=False)
    return data


@functools.cache
def mnist_builder() -> type:
    """The builder class, which registers itself with TFDS when it is defined."""
    import tensorflow_datasets as tfds
    from PIL import Image

    class JaxconvMnist(tfds.core.GeneratorBasedBuilder):
        """MNIST from the jaxconv package, in its original order."""

        VERSION = tfds.core.Version("1.0.0")
        RELEASE_NOTES: ClassVar = {"1.0.0": "The arrays of keras.datasets.mnist, record by record."}

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                description="The MNIST database of handwritten digits, in its original order.",
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(28, 28, 1)),
                        "label": tfds.features.ClassLabel(num_classes=10),
                    }
                ),
                supervised_keys=("image", "label"),
                homepage="http://yann.lecun.com/exdb/mnist/",
                license="CC BY-SA 3.0",
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            data = bundled_mnist()
            return {
                "train": self._generate_examples(data.train),
                "test": self._generate_examples(data.test),
            }

        def _generate_examples(self, split):
            # As PIL images: TFDS would encode arrays with TensorFlow.
            for index, (image, label) in enumerate(zip(split.image, split.label, strict=True)):
                yield index, {"image": Image.fromarray(image[..., 0]), "label": int(label)}

    return JaxconvMnist
