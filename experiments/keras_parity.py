"""Keras and jaxconv side by side: one set of weights, the same batches, two histories.

    python experiments/keras_parity.py
    python experiments/keras_parity.py --from-logits
    python experiments/keras_parity.py --dtype float32 --nets lab6 --samples 60000

Keras' own initial weights are carried over through a file, then both sides train on the same
batches in the same order, with dropout at rate 0 (its masks cannot agree). In float64 the losses
are the same to 15 digits, until Keras on JAX clips its first softmax (`jaxconv.losses`); with
--from-logits it does not, and they stay the same. In float32 nets that pool drift apart, since
rounding now and then decides which cell of a window wins; the others agree to 6 digits.

It needs Keras (pip install 'jaxconv[test]'), on the backend that KERAS_BACKEND names: jax where it
names none. The histories, the picture of the losses and the differences go to a folder under runs/.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxconv
from jaxconv import run_folder
from jaxconv.checks import check_positive
from jaxconv.plots import plot_parity

MEANS = ("loss", "accuracy", "val_loss", "val_accuracy")
SHAPE = (28, 28, 1)


class Notebook(NamedTuple):
    """How a notebook trains its net."""

    optimizer: str
    loss: str
    batch_size: int
    epochs: int


NOTEBOOKS = {
    "lab6": Notebook("rmsprop", "sparse_categorical_crossentropy", 64, 5),
    "intro": Notebook("rmsprop", "sparse_categorical_crossentropy", 64, 5),
    "strided": Notebook("adam", "sparse_categorical_crossentropy", 32, 10),
    "dropout": Notebook("adam", "categorical_crossentropy", 128, 15),
    "dense": Notebook("rmsprop", "sparse_categorical_crossentropy", 128, 5),
}


def keras_model(name: str, *, dropout_rate: float = 0.5, from_logits: bool = False) -> Any:
    """The Keras model of a notebook, compiled as it stands there.

    With `from_logits` the softmax is left to the loss, which then clips nothing.
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
    model.compile(optimizer=notebook.optimizer, loss=loss, metrics=["accuracy"])
    return model


def our_parts(name: str, dtype: str) -> tuple[jaxconv.ConvNet, Any, Any]:
    """Model, optimizer and loss of jaxconv's side, without dropout."""
    model = jaxconv.create_model(name, dropout_rate=0.0, dtype=dtype, param_dtype=dtype)
    notebook = NOTEBOOKS[name]
    loss = getattr(jaxconv, notebook.loss)
    if notebook.loss == "categorical_crossentropy":
        loss = jaxconv.one_hot_labels(loss)
    return model, getattr(jaxconv, notebook.optimizer)(), loss


def keras_batch(split: jaxconv.Split, name: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels as the notebook hands them to Keras."""
    one_hot = NOTEBOOKS[name].loss == "categorical_crossentropy"
    label = np.eye(10, dtype=dtype)[split.label] if one_hot else split.label
    return split.image.astype(dtype) / 255, label


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Lets both sides compute in float32 or float64."""
    import keras

    before = keras.config.floatx(), keras.config.dtype_policy()
    try:
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        with jax.enable_x64(dtype == "float64"):
            yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


def compare(
    name: str,
    data: jaxconv.Dataset,
    *,
    epochs: int,
    dtype: str,
    seed: int = 0,
    from_logits: bool = False,
) -> dict[str, dict[str, Any]]:
    """Trains a net on both sides, the last tenth of the samples held out by either's own rule.

    Returns:
      The two histories, `keras` and `jaxconv`, and `differences`: for each mean, and for the final
      `weights`, the largest absolute one.
    """
    import keras

    batch_size = NOTEBOOKS[name].batch_size
    ours = data.split_validation(0.1)
    with precision(dtype), tempfile.TemporaryDirectory() as folder:
        keras.utils.set_random_seed(seed)
        theirs = keras_model(name, dropout_rate=0.0, from_logits=from_logits)
        model, tx, loss = our_parts(name, dtype)

        def carried_over() -> Any:
            theirs.save_weights(f"{folder}/{name}.weights.h5")
            return jaxconv.keras.load_weights(f"{folder}/{name}.weights.h5", model, SHAPE)

        key = jax.random.key(seed)
        state = jaxconv.create_train_state(model, tx, key, SHAPE, params=carried_over())
        fitted = theirs.fit(
            *keras_batch(data.train, name, dtype),
            batch_size=batch_size,
            epochs=epochs,
            validation_split=0.1,
            shuffle=False,
            verbose=0,
        )
        state, rows = jaxconv.fit(
            state,
            ours.train,
            train_step=jaxconv.make_train_step(model, tx, loss=loss),
            epochs=epochs,
            batch_size=batch_size,
            shuffle=False,
            validation=ours.validation,
            eval_step=jaxconv.make_eval_step(model, loss=loss),
        )
        weights = jax.tree.map(lambda a, b: float(abs(a - b).max()), carried_over(), state.params)
    histories = {
        "keras": {mean: fitted.history[mean] for mean in MEANS},
        "jaxconv": {mean: [row[mean] for row in rows] for mean in MEANS},
    }
    differences = {
        mean: max(abs(a - b) for a, b in zip(*(h[mean] for h in histories.values()), strict=True))
        for mean in MEANS
    }
    return {**histories, "differences": {**differences, "weights": max(jax.tree.leaves(weights))}}


def show(name: str, result: dict[str, dict[str, Any]], kind: str) -> None:
    """Prints the two histories of a net, and what they differ by."""
    print(f"\n{name}, {kind}\nepoch           " + "".join(f"{mean:>20}" for mean in MEANS))
    for epoch in range(len(result["keras"]["loss"])):
        for side in ("keras", "jaxconv"):
            values = "".join(f"{result[side][mean][epoch]:20.15f}" for mean in MEANS)
            print(f"{epoch + 1:5} {side:10}{values}")
    largest = "".join(f"{result['differences'][mean]:20.1e}" for mean in MEANS)
    print(f"largest diff.   {largest}   weights {result['differences']['weights']:.1e}", flush=True)


def main(
    nets: list[str],
    dtype: str = "float64",
    samples: int = 6000,
    epochs: int | None = None,
    seed: int = 0,
    from_logits: bool = False,
) -> Path:
    check_positive("samples", samples)
    if epochs is not None:
        check_positive("epochs", epochs)
    os.environ.setdefault("KERAS_BACKEND", "jax")
    try:
        import keras
    except ModuleNotFoundError as error:
        hint = "pip install 'jaxconv[test]', and what KERAS_BACKEND names"
        raise ModuleNotFoundError(f"{error.msg}: {hint}") from None

    everything = jaxconv.load_dataset("mnist")
    if not 20 <= samples <= len(everything.train):
        raise ValueError(f"samples must be 20 to {len(everything.train)}, not {samples}.")
    train = everything.train
    data = jaxconv.Dataset.from_arrays(
        train.image[:samples], train.label[:samples], train.image[:1], train.label[:1]
    )
    kind = f"{dtype}{', Keras from logits' if from_logits else ''}"
    setting = f"{kind}, the first {samples:,} digits of MNIST, the last tenth held out"
    versions = f"Keras {keras.__version__} on {keras.backend.backend()}, jax {jax.__version__}"
    print(f"{setting}; {versions}; no shuffle, no dropout", flush=True)
    folder = run_folder.create_run_folder(f"keras_parity-{dtype}-{seed}")
    results = {}
    for name in nets:
        length = epochs or NOTEBOOKS[name].epochs
        results[name] = compare(
            name, data, epochs=length, dtype=dtype, seed=seed, from_logits=from_logits
        )
        show(name, results[name], kind)
        content = {"setting": setting, "versions": versions, "seed": seed, "nets": results}
        run_folder.write_json(folder / "parity.json", content)
    print(
        "\n| net | epochs | last loss, Keras | jaxconv | largest difference: loss | accuracy | "
        "weights |\n|---|---|---|---|---|---|---|"
    )
    for name, result in results.items():
        losses = [result[side]["loss"] for side in ("keras", "jaxconv")]
        loss, accuracy = (
            max(result["differences"][key] for key in (mean, f"val_{mean}"))
            for mean in ("loss", "accuracy")
        )
        weights = result["differences"]["weights"]
        print(
            f"| `{name}` | {len(losses[0])} | {losses[0][-1]:.6f} | {losses[1][-1]:.6f} | "
            f"{loss:.0e} | {accuracy:.0e} | {weights:.0e} |"
        )
    plot_parity(results, folder / "parity.png", title=f"{setting}; {versions}")
    print(f"\nRun: {folder}")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nets", nargs="+", choices=NOTEBOOKS, default=list(NOTEBOOKS))
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    parser.add_argument("--samples", type=int, default=6000, help="of the training set (6000)")
    parser.add_argument("--epochs", type=int, help="epochs, if not the notebook's own")
    parser.add_argument(
        "--from-logits", action="store_true", help="Keras' loss takes the logits, and clips nothing"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights (0)")
    given = parser.parse_args()
    try:
        main(**vars(given))
    except KeyboardInterrupt:
        sys.exit(130)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        parser.error(str(error))
