"""Trains learning rates × seeds as one program: which rate is best, and where a net diverges.

    python experiments/sweep.py
    python experiments/sweep.py --net lab6 --seeds 3 --learning-rates 1e-4 1e-3 1e-2
    python experiments/sweep.py --schedule onecycle --epochs 5

The learning rate is a number in the optimizer's state (`optax.inject_hyperparams`). The members of
the grid are therefore replicas of one compiled program, as seeds are, and one that diverges harms
no other. The sweep's folder has a row of `metrics.jsonl` for each member and epoch, `result.json`
with the figures by learning rate, and `sweep.png`.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxconv
from experiments.benchmarks.recipes import EXPERIMENTS, NOTEBOOKS
from jaxconv._checks import check_installed, check_positive
from jaxconv.measure import Summary, cache_if_possible, summarize
from jaxconv.runs import cli, diverged, name_seeds, parse_seeds
from jaxconv.runs import files as run_files
from jaxconv.runs import folder as run_folder
from jaxconv.runs.plots import COLORS
from jaxconv.training import choose_strategy, fit_seeds, learning_rate_schedule


@dataclasses.dataclass(frozen=True)
class Config:
    """The grid, and how it is trained."""

    net: Literal["strided", "lab6", "intro", "dropout", "dense"] = "strided"
    """The notebook's net, with its optimizer, loss and batch size."""
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    """Learning rates to try."""
    schedule: Literal["constant", "cosine", "onecycle", "warmup-cosine"] = "constant"
    """How the learning rate moves from the first step to the last; then it is the largest."""
    seeds: str = "5"
    """Seeds for each learning rate: how many, or a list, 3,7,11."""
    epochs: int = 3
    """Epochs to train."""
    strategy: Literal["map", "vmap"] | None = None
    """How replicas run: map, one after the other, or vmap, together (the backend's own choice)."""
    group: int | None = None
    """The most replicas that one program trains (the backend's own number)."""
    output_dir: str | None = None
    """The sweep's folder, if not the next free runs/sweep-NET-N."""
    overwrite: bool = False
    """Replace the sweep that --output-dir holds."""


def main(config: Config) -> dict[str, Any]:
    check_installed("run")
    seeds, rates = parse_seeds(config.seeds), config.learning_rates
    check_positive("epochs", config.epochs)
    strategy, group = choose_strategy(config.strategy, config.group)
    check_rates(rates)
    if config.overwrite and config.output_dir is None:
        raise ValueError("overwrite needs output_dir: folders in runs/ never replace each other.")
    notebook = NOTEBOOKS[config.net]
    data = jaxconv.load_dataset("mnist").split_validation(notebook.validation_split)
    members = list(itertools.product(rates, seeds))
    options = {"output_dir": config.output_dir, "overwrite": config.overwrite}
    with (
        cache_if_possible(),
        run_folder.new_run_folder(f"sweep-{config.net}", **options) as folder,
    ):
        run_files.write_json(folder / run_folder.CONFIG, dataclasses.asdict(config))
        print(
            f"{config.net}: {len(rates)} learning rates, {name_seeds(seeds)}, "
            f"{config.epochs} epochs"
        )
        histories = train(config, data, members, strategy, group, folder)
        lost = diverged(histories, [{}] * len(members))
        by_rate: dict[float, list[float]] = {rate: [] for rate in rates}
        for (rate, _), history, away in zip(members, histories, lost, strict=True):
            by_rate[rate].append(math.nan if away else history[-1]["test_accuracy"])
        result: dict[str, Any] = {
            "net": config.net,
            "epochs": config.epochs,
            "schedule": config.schedule,
            "seeds": list(seeds),
            "strategy": strategy,
            "group": group,
            "learning_rates": list(rates),
            "diverged": [sum(map(math.isnan, by_rate[rate])) for rate in rates],
        }
        figures = [finite(by_rate[rate]) for rate in rates]
        for field in ("mean", "std", "min", "max", "low", "high"):
            result[f"test_accuracy_{field}"] = [getattr(f, field) if f else None for f in figures]
        result |= {"device_kind": jax.devices()[0].device_kind, "jax_version": jax.__version__}
        run_files.write_json(folder / run_folder.RESULT, result)
        print(f"\n{table(by_rate)}")
        kind = "" if config.schedule == "constant" else f", {config.schedule}"
        title = f"{config.net}, {config.epochs} epochs{kind}, {len(seeds)} seeds"
        labels = {"xlabel": "learning rate", "ylabel": "test accuracy"}
        plot_sweep(by_rate, folder / run_folder.SWEEP, title=title, **labels)
        print(f"Sweep: {folder}")
    return result


def check_rates(rates: Sequence[float]) -> None:
    """Refuses learning rates that float32 cannot hold, or that it cannot tell apart.

    Raises:
      ValueError: with the rates.
    """
    with np.errstate(over="ignore"):
        rounded = [float(np.float32(x)) for x in rates]
    distinct = len(set(rounded)) == len(rounded)
    if not rounded or not distinct or not all(0 < x < math.inf for x in rounded):
        raise ValueError(
            f"learning_rates must be positive, finite and different in float32, not {rates}."
        )


def train(
    config: Config,
    data: jaxconv.Dataset,
    members: Sequence[tuple[float, int]],
    strategy: Literal["map", "vmap"],
    group: int,
    folder: Path,
) -> list[list[dict[str, float]]]:
    """Trains the grid, and writes the rows of each member after each epoch.

    Args:
      config: the settings.
      data: what to train and test on.
      members: a learning rate and a seed each.
      strategy: how replicas run.
      group: the most replicas that one program trains.
      folder: where `metrics.jsonl` is.

    Returns:
      The rows of each member, with the loss and accuracy of the test.
    """
    notebook, recipe = NOTEBOOKS[config.net], EXPERIMENTS[config.net].RECIPE
    steps = config.epochs * -(-len(data.train) // notebook.batch_size)
    shape = learning_rate_schedule(config.schedule, 1.0, steps)

    def optimizer(learning_rate: float) -> optax.GradientTransformation:
        own = recipe.tx(learning_rate)
        return optax.chain(own, optax.scale_by_schedule(shape)) if callable(shape) else own

    tx = optax.inject_hyperparams(optimizer)(members[0][0])
    net = jaxconv.classifier(recipe.model(data.num_classes), tx, loss=recipe.loss)

    @jax.jit
    def init(key: jax.Array, learning_rate: jax.Array) -> jaxconv.TrainState:
        state = net.init(key, data.input_shape)
        opt_state = optax.tree.set(state.opt_state, learning_rate=learning_rate)
        return state._replace(opt_state=opt_state)

    def make_state(member: tuple[float, int]) -> jaxconv.TrainState:
        return init(jax.random.key(member[1]), jnp.float32(member[0]))

    def after_epoch(own: range, _: jaxconv.TrainState, rows: list[dict[str, float]]) -> None:
        for i, row in zip(own, rows, strict=True):
            member = dict(zip(("learning_rate", "seed"), members[i], strict=True))
            run_files.append_row(folder / run_folder.METRICS, member | row)
        place = f"{own[0] + 1} to {own[-1] + 1} of {len(members)}"
        print(f"Members {place}, epoch {rows[0]['epoch']}/{config.epochs}", flush=True)

    with run_folder.report_interrupt(folder):
        _, histories = fit_seeds(
            net,
            make_state,
            members,
            data.train,
            epochs=config.epochs,
            batch_size=notebook.batch_size,
            test=data.test,
            strategy=strategy,
            group=group,
            callbacks=[after_epoch],
            keep_states=False,
        )
    return histories


def finite(values: list[float]) -> Summary | None:
    """The summary of the members that did not diverge; None if all did."""
    kept = [x for x in values if math.isfinite(x)]
    return summarize(kept) if kept else None


def table(by_rate: dict[float, list[float]]) -> str:
    """The Markdown table, a line for each learning rate."""
    lines = ["| learning rate | test accuracy | min to max | diverged |", "|---|---|---|---|"]
    for rate, values in by_rate.items():
        figures, lost = finite(values), sum(map(math.isnan, values))
        reach = f"{figures.min:.4f} to {figures.max:.4f}" if figures else ""
        cells = [f"{rate:g}", str(figures or ""), reach, f"{lost} of {len(values)}" if lost else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot_sweep(
    groups: Mapping[float, Sequence[float]], path: Path, *, xlabel: str, ylabel: str, title: str
) -> None:
    """Draws a figure over a hyperparameter: every seed, their range, and the means.

    Args:
      groups: the figure of each seed, by the hyperparameter's value. A seed that diverged has one
        that is not finite; the picture marks it at the bottom.
      path: the PNG to write.
      xlabel: the name of the hyperparameter.
      ylabel: the name of the figure.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    kept = {x: [y for y in values if math.isfinite(y)] for x, values in sorted(groups.items())}
    drawn = [x for x, values in kept.items() if values]
    if drawn:
        means = [summarize(kept[x]).mean for x in drawn]
        axes.plot(drawn, means, "o-", ms=3, color=COLORS["test"], label="mean, min to max")
        low, high = ([end(kept[x]) for x in drawn] for end in (min, max))
        axes.fill_between(drawn, low, high, lw=0, alpha=0.2, color=COLORS["test"])
        points = [(x, y) for x in drawn for y in kept[x]]
        seeds: dict[str, Any] = {"ms": 4, "alpha": 0.5, "color": COLORS["test"]}
        axes.plot(*zip(*points, strict=True), ".", **seeds, label="one seed")
    lost = {x: len(groups[x]) - len(values) for x, values in kept.items()}
    lost = {x: count for x, count in lost.items() if count}
    if lost:
        bottom, color = axes.get_xaxis_transform(), COLORS["validation"]
        heights = [0.03] * len(lost)
        axes.plot(list(lost), heights, "x", color=color, transform=bottom, label="diverged")
        for x, count in lost.items():
            text = f"{count} of {len(groups[x])}"
            axes.annotate(text, (x, 0.06), xycoords=bottom, ha="center", fontsize=8)
    axes.set(xlabel=xlabel, ylabel=ylabel, xscale="log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    cli(Config, main, __doc__)
