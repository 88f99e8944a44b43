"""Per-seed metrics of a run, their mean, standard deviation and confidence interval."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxconv.measure.statistics import summarize
from jaxconv.runs.clock import Clock
from jaxconv.training import Row, Strategy, TrainState, kept

Nets = Mapping[str, Any]
"""The `params` and `batch_stats` of a group of replicas, stacked, on the host."""
Figures = Mapping[str, Sequence[float | None]]


class Outcome(NamedTuple):
    """The result of a training."""

    states: TrainState
    """The stacked states of the last group."""
    histories: Sequence[Sequence[Row]]
    """For each replica, the rows of its epochs."""
    nets: Mapping[range, Nets]
    """The trained nets of each group of replicas."""

    @property
    def tests(self) -> list[Row]:
        """The final `loss` and `accuracy` of each replica on the test samples."""
        names = ("loss", "accuracy")
        return [{x: rows[-1][f"test_{x}"] for x in names} for rows in self.histories]


def nets_of(states: TrainState) -> Nets:
    """Copies the nets of stacked states to the host, the best or an average if they keep one."""
    states = kept(states)
    return jax.device_get({"params": states.params, "batch_stats": states.batch_stats})


def summarise(
    outcome: Outcome,
    *,
    name: str,
    seeds: Sequence[int],
    program: tuple[Strategy, int],
    seconds_before: float,
    clock: Clock,
    cache: str | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Makes the content of `result.json`; it reads nothing but its arguments.

    `program` is the strategy and the largest group, `seconds_before` the training's time before the
    run resumed, `cache` the folder of the persistent compilation cache, and `facts` what no
    training changes.
    """
    figures = figures_of(outcome.histories, outcome.tests)
    own: dict[str, Any] = {"seed": seeds[0]} if len(seeds) == 1 else {}
    own |= {"seeds": list(seeds), "strategy": program[0], "group": program[1]}
    own |= summarize_figures(seeds, figures, diverged(outcome.histories, outcome.tests))
    if facts.get("early_stopping"):
        own["last_epochs"] = [len(history) for history in outcome.histories]
    if facts.get("restore_best"):
        own["best_epochs"] = [best_epoch(history) for history in outcome.histories]
    compiled = clock.programs.compilations - clock.programs.cached
    seconds_train = seconds_of(outcome.histories)
    new = seconds_train - seconds_before
    return {
        "experiment": name,
        **own,
        "seconds_data": clock.seconds["data"],
        "seconds_compile": clock.compile_seconds,
        "compilation_cache": "off" if cache is None else "cold" if compiled else "cached",
        "programs": clock.programs.compilations,
        "programs_compiled": compiled,
        "seconds_train": seconds_train,
        "seconds_evaluation": max(0.0, clock.seconds["fit"] - new),
        "seconds_report": clock.seconds["report"],
        "seconds_total": clock.total,
        **facts,
    }


def best_epoch(history: Sequence[Row]) -> int | None:
    """The first epoch with the lowest `val_loss`; None if none is finite.

    Example:
      >>> best_epoch([{"epoch": 1, "val_loss": 0.5}, {"epoch": 2, "val_loss": 0.25}])
      2
    """
    finite = [row for row in history if math.isfinite(row["val_loss"])]
    return int(min(finite, key=lambda row: row["val_loss"])["epoch"]) if finite else None


def seconds_of(histories: Sequence[Sequence[Row]]) -> float:
    """The time that the epochs took."""
    return sum(row["seconds"] for history in histories for row in history)


def figures_of(
    histories: Sequence[Sequence[Row]], tests: Sequence[Row]
) -> dict[str, list[float | None]]:
    """Collects the metrics of the last epoch and the final test, one value for each replica.

    The names are those of `result.json`, `train_loss` to `test_accuracy`; a value that there is not
    is None. Where an average or the best epoch is evaluated, there are also those of the weights of
    the last step, `raw_test_loss` and so on.

    Example:
      >>> means = {"loss": 0.5, "accuracy": 0.875}
      >>> figures_of([[{"epoch": 1, **means}]], [means])["val_loss"]
      [None]
    """
    last = [history[-1] for history in histories]
    sources = [("train", "", last), ("val", "val_", last), ("test", "", tests)]
    sources += [
        (kind, f"{kind}_", last) for kind in ("raw_val", "raw_test") if f"{kind}_loss" in last[0]
    ]
    return {
        f"{kind}_{name}": [row.get(prefix + name) for row in rows]
        for kind, prefix, rows in sources
        for name in ("loss", "accuracy")
    }


def joint_row(rows: Sequence[Row]) -> dict[str, float]:
    """Averages the rows of one epoch, without replicas that diverged, and adds up the seconds.

    Example:
      >>> joint_row([{"loss": 0.5, "seconds": 2.0}, {"loss": 0.25, "seconds": 2.0}])
      {'loss': 0.375, 'seconds': 4.0}
    """
    kept = [row for row in rows if all(map(math.isfinite, row.values()))] or rows
    means = {name: sum(row[name] for row in kept) / len(kept) for name in rows[0]}
    return means | {"seconds": sum(row["seconds"] for row in rows)}


def diverged(histories: Sequence[Sequence[Row]], tests: Sequence[Row]) -> list[bool]:
    """Returns for each replica whether a value of its history or test is not finite.

    Example:
      >>> diverged([[{"epoch": 1, "loss": 0.5}], [{"epoch": 1, "loss": float("inf")}]], [{}, {}])
      [False, True]
    """
    return [
        not all(math.isfinite(value) for row in (*history, test) for value in row.values())
        for history, test in zip(histories, tests, strict=True)
    ]


def summarize_figures(
    seeds: Sequence[int], figures: Figures, lost: Sequence[bool]
) -> dict[str, Any]:
    """Makes the figures of `result.json` from those of `figures_of`.

    `diverged` names the seeds that did. For each figure there is `_by_seed`, all values, and over
    those that did not diverge its mean under its own name and, of several seeds, `_std`, `_min`,
    `_max`, `_low` and `_high` (the mean's 95% confidence interval by Student's t, cut off at 0 and,
    of an accuracy, at 1). None stands for no number.

    Example:
      >>> result = summarize_figures([3, 7], {"test_loss": [0.5, 0.25]}, [False, False])
      >>> result["test_loss"], result["test_loss_max"], result["test_loss_by_seed"]
      (0.375, 0.5, [0.5, 0.25])
    """
    result: dict[str, Any] = {
        "diverged": [seed for seed, away in zip(seeds, lost, strict=True) if away]
    }
    for name, values in figures.items():
        kept = [x for x, away in zip(values, lost, strict=True) if not away and x is not None]
        within = (0.0, 1.0 if name.endswith("accuracy") else math.inf)
        parts = summarize(kept, within=within)._asdict() if kept else {}
        result[name] = parts.get("mean")
        spread = ("std", "min", "max", "low", "high") if len(seeds) > 1 else ()
        result |= {f"{name}_{k}": parts.get(k) for k in spread}
        result[f"{name}_by_seed"] = list(values)
    return result
