"""The notebooks' nets in Keras, as the notebooks write them: the other side of every comparison.

`keras_parity.py`, `bench_peers.py` and the tests use them. Keras is imported where it is used, on
the backend that KERAS_BACKEND names. Nothing of jaxconv is imported, so that a peer's start and
memory are its own.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import jaxconv

SHAPE = (28, 28, 1)


class Notebook(NamedTuple):
    """How a notebook trains its net; `recipes.py` has those of all notebooks."""

    optimizer: str
    """Keras' name of the optimizer, which has its default learning rate."""
    loss: str
    """Keras' name of the loss."""
    batch_size: int
    epochs: int
    validation_split: float = 0.0
    """The share of the training samples, taken from the end, to validate on."""
    validate_on_test: bool = False

    @property
    def one_hot(self) -> bool:
        """Whether the loss takes one-hot labels, not integers."""
        return self.loss == "categorical_crossentropy"


def keras_model(
    name: str,
    notebook: Notebook,
    *,
    dropout_rate: float = 0.5,
    from_logits: bool = False,
    **options: Any,
) -> Any:
    """The Keras model of a notebook, compiled as the notebook compiles it.

    Args:
      name: the net's name.
      notebook: names the optimizer and the loss.
      dropout_rate: the share of the features that dropout removes, where the net has dropout.
      from_logits: leave the softmax to the loss, which then clips nothing.
      **options: more arguments of Keras' `compile`.
    """
    import keras
    from keras.layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D

    layers = {
        "lab6": lambda: [
            Conv2D(filters=32, kernel_size=3, activation="relu"),
            MaxPooling2D(pool_size=2),
            Conv2D(filters=64, kernel_size=3, activation="relu"),
            MaxPooling2D(pool_size=2),
            Conv2D(filters=128, kernel_size=3, activation="relu"),
            Flatten(),
        ],
        "intro": lambda: [
            Conv2D(32, (3, 3), activation="relu"),
            MaxPooling2D((2, 2)),
            Conv2D(64, (3, 3), activation="relu"),
            MaxPooling2D((2, 2)),
            Conv2D(64, (3, 3), activation="relu"),
            Flatten(),
            Dense(64, activation="relu"),
        ],
        "strided": lambda: [
            Conv2D(16, (3, 3), strides=(2, 2), padding="valid"),
            Conv2D(32, (3, 3), strides=(2, 2), padding="valid"),
            Conv2D(64, (3, 3), strides=(2, 2), padding="valid"),
            Flatten(),
            Dense(64, activation="relu"),
        ],
        "dropout": lambda: [
            Conv2D(32, kernel_size=(3, 3), activation="relu"),
            MaxPooling2D(pool_size=(2, 2)),
            Conv2D(64, kernel_size=(3, 3), activation="relu"),
            MaxPooling2D(pool_size=(2, 2)),
            Flatten(),
            Dropout(dropout_rate),
        ],
        "dense": lambda: [Flatten(), Dense(512, activation="relu")],
    }[name]
    last = Dense(10) if from_logits else Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input(SHAPE), *layers(), last])
    loss = {
        "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
        "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
    }[notebook.loss](from_logits=from_logits)
    model.compile(optimizer=notebook.optimizer, loss=loss, metrics=["accuracy"], **options)
    return model


def keras_batch(
    split: "jaxconv.Split", notebook: Notebook, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images, scaled to [0, 1], and labels as the notebook gives them to Keras."""
    label = np.eye(10, dtype=dtype)[split.label] if notebook.one_hot else split.label
    return split.image.astype(dtype) / 255, label
