"""The mistakes of an ensemble on MNIST's test digits, beside the labels that people doubt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jaxconv

WRONG_LABELS = {
    947: 9, 1621: 6, 1901: 4, 2130: None, 2462: 0, 2597: 3, 2654: None, 3520: None, 3558: 0,
    5937: 3, 6651: 6, 6783: 6, 8527: None, 9679: None, 9729: 6,
}  # fmt: skip
"""The test digits whose label fewer than three of five people saw, and what three or more saw.

Source: Northcutt, Athalye and Mueller, 2021, https://arxiv.org/abs/2103.14749
"""


def ensemble_claim(facts: dict[str, Any]) -> str:
    """The claim of the ensemble, and its mistakes beside the labels that people doubt.

    Example:
      >>> ensemble = {"seeds": 2, "mistakes": [[947, 8, 9], [2130, 4, 9], [8, 5, 6]]}
      >>> print(ensemble_claim({"ensemble": ensemble, "test_samples": 1000}))
      Ensemble of 2: 0.9970 (3 mistakes)
      Of 15 labels that people doubt, 2 are among them: 947 (8, taken ...
    """
    ensemble, samples = facts["ensemble"], facts["test_samples"]
    doubted = [
        f"{i} ({label}, taken for {guess}; people: {_seen(i)})"
        for i, label, guess in ensemble["mistakes"]
        if i in WRONG_LABELS
    ]
    count = len(ensemble["mistakes"])
    return (
        f"Ensemble of {ensemble['seeds']}: {1 - count / samples:.4f} ({count} mistakes)\n"
        f"Of {len(WRONG_LABELS)} labels that people doubt, {len(doubted)} are among them: "
        f"{', '.join(doubted)}"
    )


def _seen(i: int) -> str:
    seen = WRONG_LABELS[i]
    return "no majority" if seen is None else str(seen)


def draw(mistakes: Sequence[tuple[int, int, int]], path: Path) -> None:
    """Draws the ensemble's mistakes, with their labels; those that people doubt in red."""
    import matplotlib.pyplot as plt

    image = jaxconv.load_dataset("mnist").test.image
    columns = 9
    rows = -(-len(mistakes) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns, 1.35 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (i, label, guess) in zip(axes.flat, mistakes, strict=False):
        axis.imshow(image[i, :, :, 0], cmap="gray_r")
        text = f"{label}, taken for {guess}\n{f'people: {_seen(i)}' if i in WRONG_LABELS else ''}"
        axis.set_title(text, fontsize=7, color="firebrick" if i in WRONG_LABELS else "black")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
