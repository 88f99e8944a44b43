"""Pictures from arrays, by matplotlib (its object interface: no global state, no display)."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

COLORS = {"train": "#0b6e99", "validation": "#d9730d", "test": "#0f7b6c"}


def plot_history(
    history: Sequence[Mapping[str, float]], test: Mapping[str, float], path: Path, *, title: str
) -> None:
    """Draws loss and accuracy over the epochs, training and validation, and the final test's.

    Args:
      history: the rows that `fit` returns.
      test: the final `loss` and `accuracy`.
      path: the PNG to write.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        series = {"train": name, "validation": f"val_{name}"}
        for label, key in series.items():
            if key in history[-1]:
                values = [row[key] for row in history]
                axes.plot(epochs, values, "o-", ms=4, color=COLORS[label], label=label)
        value = f"test {test[name]:.4f}"
        axes.axhline(test[name], ls="--", lw=1, color=COLORS["test"], label=value)
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def plot_parity(
    results: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], path: Path, *, title: str
) -> None:
    """Draws the losses of two implementations over each other, and how far they lie apart.

    Args:
      results: by net, the two histories by the name of their side; a history has `loss` and
        `val_loss` by epoch. The side named `jaxconv` is drawn on top.
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
            apart = [max(abs(a - b), 1e-17) for a, b in zip(theirs, ours, strict=True)]
            lower.plot(epochs, apart, "o-", ms=3, color=color)
        upper.set(title=net, ylim=(0, None))
        lower.set(xlabel="epoch", yscale="log", ylim=(1e-17, 1))
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
    columns[0][0].set_ylabel("loss")
    columns[0][1].set_ylabel("|Keras − jaxconv|\n(equal: on the axis)")
    columns[-1][0].legend(frameon=False)
    figure.suptitle(textwrap.fill(title, 40 * len(results)))
    figure.savefig(path, dpi=120)
