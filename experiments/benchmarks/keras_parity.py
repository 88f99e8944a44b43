"""Trains Keras and jaxconv from the same weights on the same batches, and compares the histories.

    python experiments/benchmarks/keras_parity.py
    python experiments/benchmarks/keras_parity.py --from-logits
    python experiments/benchmarks/keras_parity.py --dtype float32 --nets lab6 --samples 60000

jaxconv takes Keras' own initial weights from a file. Then both sides train on the same batches in
the same order, with dropout at rate 0, as its masks cannot agree. In float64 the losses are the
same to 15 digits until Keras on JAX clips its first softmax (`jaxconv.training.losses`); with
--from-logits Keras does not clip, and they stay the same. In float32 all nets but `dense` drift
apart: now and then rounding decides which cell of a window wins, or whether a relu is open.

It needs Keras (pip install -e '.[test]'), on the backend that KERAS_BACKEND names, or else on jax.
The histories, the differences and the picture of the losses go to a folder under runs/.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxconv
from experiments.benchmarks.keras_nets import SHAPE, keras_batch, keras_model
from experiments.benchmarks.recipes import NOTEBOOKS, net_of
from jaxconv._checks import check_installed, check_positive
from jaxconv.runs import files as run_files
from jaxconv.runs import folder as run_folder
from jaxconv.runs.plots import COLORS

MEANS = ("loss", "accuracy", "val_loss", "val_accuracy")


def without_dropout(name: str, dtype: str) -> tuple[jaxconv.ConvNet, jaxconv.Classifier]:
    """The model of jaxconv's side, without dropout, and the classifier of it."""
    options = {"dropout_rate": 0.0, "dtype": dtype, "param_dtype": dtype}
    return jaxconv.create_model(name, **options), net_of(name, **options)


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Makes both sides compute in float32 or float64."""
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
    """Trains a net on both sides. Each side holds the last tenth out by its own rule.

    Returns:
      The two histories, `keras` and `jaxconv`, and `differences`: for each mean, and for the final
      `weights`, the largest absolute one.
    """
    import keras

    notebook = NOTEBOOKS[name]
    ours = data.split_validation(0.1)
    with precision(dtype), tempfile.TemporaryDirectory() as folder:
        keras.utils.set_random_seed(seed)
        theirs = keras_model(name, notebook, dropout_rate=0.0, from_logits=from_logits)
        model, net = without_dropout(name, dtype)

        def carried_over() -> Any:
            theirs.save_weights(f"{folder}/{name}.weights.h5")
            return jaxconv.export.load_weights(f"{folder}/{name}.weights.h5", model, SHAPE)

        key = jax.random.key(seed)
        state = net.init(key, SHAPE, params=carried_over())
        fitted = theirs.fit(
            *keras_batch(data.train, notebook, dtype),
            batch_size=notebook.batch_size,
            epochs=epochs,
            validation_split=0.1,
            shuffle=False,
            verbose=0,
        )
        state, rows = jaxconv.fit(
            net,
            state,
            ours.train,
            epochs=epochs,
            batch_size=notebook.batch_size,
            shuffle=False,
            validation=ours.validation,
        )
        weights = jax.tree.map(lambda a, b: float(abs(a - b).max()), carried_over(), state.params)
    # np.max, unlike max, is NaN where one of them is.
    histories = {
        "keras": {mean: fitted.history[mean] for mean in MEANS},
        "jaxconv": {mean: [row[mean] for row in rows] for mean in MEANS},
    }
    pairs = {mean: np.subtract(*(sides[mean] for sides in histories.values())) for mean in MEANS}
    differences = {mean: float(np.max(np.abs(pair))) for mean, pair in pairs.items()}
    differences["weights"] = float(np.max(jax.tree.leaves(weights)))
    return {**histories, "differences": differences}


def show(name: str, result: dict[str, dict[str, Any]], kind: str) -> None:
    """Prints the two histories of a net, and their largest differences."""
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
    check_installed("run")
    check_positive("samples", samples)
    if epochs is not None:
        check_positive("epochs", epochs)
    os.environ.setdefault("KERAS_BACKEND", "jax")
    try:
        import keras
    except ModuleNotFoundError as error:
        hint = "pip install -e '.[test]', and what KERAS_BACKEND names"
        raise ModuleNotFoundError(f"{error.msg}: {hint}") from None
    if keras.backend.backend() not in ("jax", "tensorflow", "torch"):
        raise ValueError(
            f"Keras on {keras.backend.backend()} does not train: set KERAS_BACKEND=jax."
        )
    everything = jaxconv.load_dataset("mnist")
    if not 20 <= samples <= len(everything.train):
        raise ValueError(f"samples must be 20 to {len(everything.train)}, not {samples}.")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be in [0, 2**32), not {seed}.")
    train = everything.train
    data = jaxconv.Dataset.from_arrays(
        train.image[:samples], train.label[:samples], train.image[:1], train.label[:1]
    )
    kind = f"{dtype}{', Keras from logits' if from_logits else ''}"
    setting = f"{kind}, the first {samples:,} digits of MNIST, the last tenth held out"
    versions = f"Keras {keras.__version__} on {keras.backend.backend()}, jax {jax.__version__}"
    print(f"{setting}; {versions}; no shuffle, no dropout", flush=True)
    folder, results = None, {}
    for name in nets:
        length = epochs or NOTEBOOKS[name].epochs
        results[name] = compare(
            name, data, epochs=length, dtype=dtype, seed=seed, from_logits=from_logits
        )
        show(name, results[name], kind)
        folder = folder or run_folder.next_free(Path("runs"), f"keras_parity-{dtype}-{seed}")
        content = {"setting": setting, "versions": versions, "seed": seed, "nets": results}
        run_files.write_json(folder / "parity.json", content)
    print_table(results)
    assert folder is not None
    plot_parity(results, folder / "parity.png", title=f"{setting}; {versions}")
    print(f"\nRun: {folder}")
    return folder


def print_table(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Prints a line for each net, as Markdown."""
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


def plot_parity(
    results: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], path: Path, *, title: str
) -> None:
    """Draws the losses of both sides over each other, and the distance between them.

    Args:
      results: for each net the histories of its sides, `keras` and `jaxconv`; a history has `loss`
        and `val_loss` by epoch.
      path: the PNG to write.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(3.2 * len(results) + 0.8, 5), layout="constrained")
    columns = figure.subplots(2, len(results), squeeze=False, sharex="col", height_ratios=(3, 2)).T
    for (net, result), (upper, lower) in zip(results.items(), columns, strict=True):
        for label, key in (("train", "loss"), ("validation", "val_loss")):
            theirs, ours = result["keras"][key], result["jaxconv"][key]
            epochs = range(1, len(ours) + 1)
            color = COLORS[label]
            upper.plot(epochs, theirs, lw=6, alpha=0.3, color=color, label=f"Keras, {label}")
            upper.plot(epochs, ours, "o-", lw=1, ms=3, color=color, label=f"jaxconv, {label}")
            distance = [max(abs(a - b), 1e-17) for a, b in zip(theirs, ours, strict=True)]
            lower.plot(epochs, distance, "o-", ms=3, color=color)
        upper.set(title=net, ylim=(0, None))
        lower.set(xlabel="epoch", yscale="log", ylim=(1e-17, 1))
        lower.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
    columns[0][0].set_ylabel("loss")
    columns[0][1].set_ylabel("|Keras − jaxconv|\n(equal: on the axis)")
    columns[-1][0].legend(frameon=False)
    figure.suptitle(textwrap.fill(title, 40 * len(results)))
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--nets", nargs="+", choices=NOTEBOOKS, default=list(NOTEBOOKS), help="Nets (all)."
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float64",
        help="The dtype of both sides (float64).",
    )
    parser.add_argument(
        "--samples", type=int, default=6000, help="Samples of the training set (6000)."
    )
    parser.add_argument("--epochs", type=int, help="Epochs (the notebook's).")
    parser.add_argument(
        "--from-logits",
        action="store_true",
        help="Let Keras' loss take the logits, and clip nothing.",
    )
    parser.add_argument("--seed", type=int, default=0, help="The seed of the initial weights (0).")
    given = parser.parse_args()
    try:
        main(**vars(given))
    except KeyboardInterrupt:
        sys.stdout.flush()
        os._exit(130)  # an orderly exit crashes where XLA is still compiling
    except (ValueError, OSError, ModuleNotFoundError) as error:
        parser.error(str(error))
