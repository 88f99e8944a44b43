"""A result as lines of text: its metrics, the table of its seeds, and the seeds in words."""

from collections.abc import Mapping, Sequence
from typing import Any


def statistics_lines(result: Mapping[str, Any]) -> str:
    """Formats the test metrics of several seeds.

    Example:
      >>> from jaxconv.runs.result import summarize_figures
      >>> figures = {"test_loss": [0.5, 0.25], "test_accuracy": [0.75, 1.0]}
      >>> summary = summarize_figures([3, 7], figures, [False, False])
      >>> print(statistics_lines({"seeds": [3, 7], **summary}))
      Test loss: 0.3750 ± 0.1768 (0.2500 to 0.5000; 95% interval of the mean 0.0000 to 1.9633)
      Test accuracy: 0.8750 ± 0.1768 (0.7500 to 1.0000; 95% interval of the mean 0.0000 to 1.0000)
      Mean ± std of 2 seeds

    If there are figures of the ensemble, they stand in a line of their own.
    """
    count = len(result["seeds"]) - len(result["diverged"])
    lines = []
    for name in ("test_loss", "test_accuracy") if count else ():
        mean, std, lowest, highest, low, high = (
            result.get(name + end) for end in ("", "_std", "_min", "_max", "_low", "_high")
        )
        rest = ""
        if count > 1:
            interval = f"95% interval of the mean {low:.4f} to {high:.4f}"
            rest = f" ± {std:.4f} ({lowest:.4f} to {highest:.4f}; {interval})"
        lines.append(f"{name.capitalize().replace('_', ' ')}: {mean:.4f}{rest}")
    if count > 1:
        lines.append(f"Mean ± std of {count} seeds")
    if result["diverged"]:
        lines.append(f"Diverged, and left out: {name_seeds(result['diverged'])}")
    if "ensemble_loss" in result:
        parts = [
            f"{name.replace('_', ' ')} {result[f'ensemble_{name}']:.4f}"
            f" ({result[f'test_{name}']:.4f})"
            for name in ("accuracy", "loss", "calibration_error")
        ]
        lines.append(f"Their ensemble (and the mean of the seeds): {', '.join(parts)}")
    return "\n".join(lines)


def result_lines(result: Mapping[str, Any]) -> str:
    """Formats the test metrics of a result, of one seed or several.

    Example:
      >>> print(result_lines({"test_loss": 0.5, "test_accuracy": 0.75}))
      Test loss: 0.5000
      Test accuracy: 0.7500
    """
    if len(result.get("seeds", [])) > 1:
        lines = statistics_lines(result)
    else:
        accuracy = f"Test accuracy: {result['test_accuracy']:.4f}"
        lines = f"Test loss: {result['test_loss']:.4f}\n{accuracy}"
    if (accuracy := result.get("raw_test_accuracy")) is not None:
        raw = f"loss {result['raw_test_loss']:.4f}, accuracy {accuracy:.4f}"
        lines += f"\nThe weights of the last step instead: {raw}"
    for name, text in (("last_epochs", "Ended after epoch"), ("best_epochs", "Kept: epoch")):
        if name in result:
            lines += f"\n{text} {', '.join(map(str, result[name]))}"
    return lines


def seed_table(result: Mapping[str, Any]) -> str:
    """Formats a table with a line for each seed; nothing for a result of one.

    Example:
      >>> figures = {"train_loss_by_seed": [0.5, 0.25], "val_loss_by_seed": [None, None]}
      >>> print(seed_table({"seeds": [3, 11], **figures}))
      seed  train loss
         3      0.5000
        11      0.2500
    """
    names = [name.removesuffix("_by_seed") for name in result if name.endswith("_by_seed")]
    columns = {name.replace("_", " "): result[f"{name}_by_seed"] for name in names}
    columns = {head: values for head, values in columns.items() if values[0] is not None}
    width = max([4, *(len(str(seed)) for seed in result.get("seeds", []))])
    lines = ["  ".join(["seed".rjust(width), *columns])]
    for i, seed in enumerate(result.get("seeds", [])):
        cells = [f"{values[i]:.4f}".rjust(len(head)) for head, values in columns.items()]
        lines.append("  ".join([str(seed).rjust(width), *cells]))
    return "\n".join(lines if len(lines) > 2 else [])


def name_seeds(seeds: Sequence[int]) -> str:
    """Names seeds in words.

    Example:
      >>> name_seeds([3]), name_seeds([0, 1, 2]), name_seeds([3, 7, 11])
      ('seed 3', 'seeds 0 to 2', 'seeds 3, 7, 11')
    """
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}"
