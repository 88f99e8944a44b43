"""The notebooks' nets as they stand there, in Keras: the other side of every comparison.

`python experiments/benchmarks/keras_parity.py`, `python experiments/benchmarks/bench_peers.py` and the tests use them.
Keras is imported where it is used, on the backend that KERAS_BACKEND names, and nothing of jaxconv
is: a peer's time and memory are its own.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import jaxconv

SHAPE = (28, 28, 1)


class Notebook(NamedTuple):
    """How a notebook trains its net."""

    optimizer: str
    loss: str
    batch_size: int
    epochs: int
    validation_split: float = 0.0
    validate_on_test: bool = False


NOTEBOOKS = {
    "lab6": Notebook("rmsprop", "sparse_categorical_crossentropy", 64, 5),
    "intro": Notebook("rmsprop", "sparse_categorical_crossentropy", 64, 5),
    "strided": Notebook("adam", "sparse_categorical_crossentropy", 32, 10, validate_on_test=True),
    "dropout": Notebook("adam", "categorical_crossentropy", 128, 15, validation_split=0.1),
    "dense": Notebook("rmsprop", "sparse_categorical_crossentropy", 128, 5),
}


def keras_model(
    name: str, *, dropout_rate: float = 0.5, from_logits: bool = False, **options: Any
) -> Any:
    """The Keras model of a notebook, compiled as it stands there.

    With `from_logits` the softmax is left to the loss, which then clips nothing. More `options` go
    to Keras' `compile`.
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
    notebook = NOTEBOOKS[name]
    loss = {
        "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
        "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
    }[notebook.loss](from_logits=from_logits)
    model.compile(optimizer=notebook.optimizer, loss=loss, metrics=["accuracy"], **options)
    return model


def keras_batch(split: "jaxconv.Split", name: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels as the notebook hands them to Keras."""
    one_hot = NOTEBOOKS[name].loss == "categorical_crossentropy"
    label = np.eye(10, dtype=dtype)[split.label] if one_hot else split.label
    return split.image.astype(dtype) / 255, label
