"""Learning rates × seeds as one program: where a net trains best, how surely, where it diverges.

    python experiments/sweep.py
    python experiments/sweep.py --net lab6 --seeds 3 --learning-rates 1e-4 1e-3 1e-2

The learning rate is a number in the optimizer's state (`optax.inject_hyperparams`), so that the
members of the grid are replicas of the same compiled program, as seeds are. One that diverges harms
no other. The run's folder has a row of `metrics.jsonl` for each member and epoch, `result.json`
(figures by learning rate), and `sweep.png`.
"""

import dataclasses
import functools
import importlib.util
import itertools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxconv
from experiments.benchmarks.keras_nets import NOTEBOOKS
from experiments.benchmarks.recipes import our_net
from jaxconv._checks import check_positive
from jaxconv.measure.compilation_cache import cache_unless
from jaxconv.measure.statistics import Summary, summarize
from jaxconv.runs import files as run_files
from jaxconv.runs import folder as run_folder
from jaxconv.runs.cli import cli
from jaxconv.runs.result import diverged
from jaxconv.runs.seed_list import name_seeds, parse_seeds
from jaxconv.runs.seed_plots import plot_sweep
from jaxconv.training.replicas import choose_strategy, fit_seeds


@dataclasses.dataclass(frozen=True)
class Config:
    """The grid, and how it is trained."""

    net: Literal["strided", "lab6", "intro", "dropout", "dense"] = "strided"
    """The notebook's net, with its optimizer, loss and batch size."""
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    """The learning rates."""
    seeds: str = "5"
    """How many seeds for each, or a list, 3,7,11."""
    epochs: int = 3
    """Epochs to train."""
    strategy: Literal["map", "vmap"] | None = None
    """How replicas run: map, in turn, or vmap, in each operation (the backend's own)."""
    group: int | None = None
    """The most replicas that one program trains (the backend's own number)."""
    output_dir: str | None = None
    """The sweep's folder, if not the next free runs/sweep-NET-N."""
    overwrite: bool = False
    """Replace the sweep that --output-dir holds."""


def main(config: Config) -> dict[str, Any]:
    seeds = parse_seeds(config.seeds)
    with np.errstate(over="ignore"):
        rates = [float(np.float32(x)) for x in config.learning_rates]
    check_positive("epochs", config.epochs)
    strategy, group = choose_strategy(config.strategy, config.group)
    if not rates or len(set(rates)) < len(rates) or not all(0 < x < math.inf for x in rates):
        raise ValueError(
            "learning_rates must be positive, finite and different in float32, not "
            f"{config.learning_rates}."
        )
    if config.overwrite and config.output_dir is None:
        raise ValueError("overwrite needs output_dir: folders in runs/ never replace each other.")
    rates = config.learning_rates
    notebook = NOTEBOOKS[config.net]
    data = jaxconv.load_dataset("mnist").split_validation(notebook.validation_split)
    model, _, loss = our_net(config.net)
    optimizer = getattr(jaxconv, notebook.optimizer)
    tx = optax.inject_hyperparams(lambda learning_rate: optimizer(learning_rate))(rates[0])
    train_step = jaxconv.make_train_step(model, tx, loss=loss)
    eval_step = jaxconv.make_eval_step(model, loss=loss)
    members = list(itertools.product(rates, seeds))

    @jax.jit
    def init(key: jax.Array, learning_rate: jax.Array) -> jaxconv.TrainState:
        state = jaxconv.create_train_state(model, tx, key, data.input_shape)
        opt_state = optax.tree.set(state.opt_state, learning_rate=learning_rate)
        return state._replace(opt_state=opt_state)

    def make_state(member: tuple[float, int]) -> jaxconv.TrainState:
        return init(jax.random.key(member[1]), jnp.float32(member[0]))

    epoch = functools.partial(
        jaxconv.train_epoch, train_step=train_step, batch_size=notebook.batch_size
    )
    options = {"output_dir": config.output_dir, "overwrite": config.overwrite}
    with (
        cache_unless(False),
        run_folder.new_run_folder(f"sweep-{config.net}", **options) as folder,
    ):
        run_files.write_json(folder / run_folder.CONFIG, dataclasses.asdict(config))
        print(
            f"{config.net}: {len(rates)} learning rates, {name_seeds(seeds)}, "
            f"{config.epochs} epochs"
        )

        def after_epoch(group: range, _: jaxconv.TrainState, rows: list[dict[str, float]]) -> None:
            for i, row in zip(group, rows, strict=True):
                member = dict(zip(("learning_rate", "seed"), members[i], strict=True))
                run_files.append_row(folder / run_folder.METRICS, member | row)
            place = f"{group[0] + 1} to {group[-1] + 1} of {len(members)}"
            print(f"Members {place}, epoch {rows[0]['epoch']}/{config.epochs}", flush=True)

        with run_folder.report_interrupt(folder):
            _, histories = fit_seeds(
                make_state,
                epoch,
                members,
                data.train,
                epochs=config.epochs,
                test=data.test,
                eval_step=eval_step,
                strategy=strategy,
                group=group,
                callbacks=[after_epoch],
                keep_states=False,
            )
        lost = diverged(histories, [{}] * len(members))
        by_rate: dict[float, list[float]] = {rate: [] for rate in rates}
        for (rate, _), history, away in zip(members, histories, lost, strict=True):
            by_rate[rate].append(math.nan if away else history[-1]["test_accuracy"])
        result: dict[str, Any] = {
            "net": config.net,
            "epochs": config.epochs,
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
        if importlib.util.find_spec("matplotlib"):
            title = f"{config.net}, {config.epochs} epochs, {len(seeds)} seeds"
            labels = {"xlabel": "learning rate", "ylabel": "test accuracy"}
            plot_sweep(by_rate, folder / run_folder.SWEEP, title=title, **labels)
        else:
            print(
                f"matplotlib is missing: {run_folder.SWEEP} is left out (pip install matplotlib)."
            )
        print(f"Sweep: {folder}")
    return result


def finite(values: list[float]) -> Summary | None:
    """The spread of the members that did not diverge; None if all did."""
    kept = [x for x in values if math.isfinite(x)]
    return summarize(kept) if kept else None


def table(by_rate: dict[float, list[float]]) -> str:
    """A line for each learning rate, as Markdown."""
    lines = ["| learning rate | test accuracy | min to max | diverged |", "|---|---|---|---|"]
    for rate, values in by_rate.items():
        figures, lost = finite(values), sum(map(math.isnan, values))
        reach = f"{figures.min:.4f} to {figures.max:.4f}" if figures else ""
        cells = [f"{rate:g}", str(figures or ""), reach, f"{lost} of {len(values)}" if lost else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    cli(Config, main, __doc__)
