"""Keras, on the backend that KERAS_BACKEND names. `bench_peers.py` starts it."""

import os
import time

import keras
import numpy as np

from experiments.benchmarks.keras_nets import Notebook, keras_model
from experiments.benchmarks.peers.peer_main import Digits, main

BACKEND = os.environ["KERAS_BACKEND"]
EVAL_BATCH_SIZE = 200  # as jaxconv's


class Clock(keras.callbacks.Callback):
    """Times the last epoch. A callback at each batch would slow Keras down."""

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.seconds = time.perf_counter() - self.began


class Keras:
    """`fit` and `evaluate` on arrays, as in the notebooks."""

    def __init__(self, net: str, notebook: Notebook) -> None:
        # This helps TensorFlow if steps are short; elsewhere no difference was beyond the spread.
        many = BACKEND == "tensorflow" and net in ("strided", "dense")
        self.model = keras_model(net, notebook, steps_per_execution=32 if many else 1)
        self.device = BACKEND
        if BACKEND == "tensorflow":
            import tensorflow  # pyright: ignore[reportMissingModuleSource]

            self.device = "gpu" if tensorflow.config.list_physical_devices("GPU") else "cpu"
        self.one_hot = notebook.one_hot

    def prepare(self, digits: Digits) -> Digits:
        image = digits.image.astype(np.float32)
        image /= 255
        label = np.eye(10, dtype=np.float32)[digits.label] if self.one_hot else digits.label
        return Digits(image, label)

    def fit(self, train: Digits, notebook: Notebook, epochs: int, test: Digits | None) -> float:
        clock = Clock()
        self.model.fit(
            *train,
            batch_size=notebook.batch_size,
            epochs=epochs,
            validation_split=0.0 if test is None else notebook.validation_split,
            validation_data=tuple(test) if test and notebook.validate_on_test else None,
            validation_batch_size=EVAL_BATCH_SIZE,
            callbacks=[clock],
            verbose=0,
        )
        return clock.seconds

    def accuracy(self, test: Digits) -> float:
        return self.model.evaluate(*test, batch_size=EVAL_BATCH_SIZE, verbose=0)[1]


if __name__ == "__main__":
    main(Keras, "keras", BACKEND, "numpy")
