"""Pictures from arrays, by matplotlib (its object interface: no global state, no display)."""

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
