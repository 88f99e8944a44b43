"""Dense against convolutional (notebook 001): how much error does the convnet save, at what cost?

    python experiments/lessons/dense_vs_conv.py

001 states "the densely connected model had a test accuracy of 97.8%, the basic convnet has a test
accuracy of 99.1%", and in a comment that this saves "about 60%" of the error. Over ten seeds:

- `lab6` has a quarter of the parameters of `dense`, 104,202 against 407,050, since a kernel serves
  every position of the image;
- for the same reason it takes 7.6 times the multiply-adds, 3,100,032 a digit against 406,528;
- test accuracy is 0.9920 ± 0.0012 against 0.9790 ± 0.0028 (p = 6.3e-08). This saves 61.8% of the
  error (95% interval 57.6% to 66.0%), which confirms the notebook's 60%.
"""

import dataclasses
from collections.abc import Collection
from typing import Any

import jaxconv
from experiments import compare
from experiments.lessons import lesson
from jaxconv.inspection import layer_rows
from jaxconv.measure import RelativeReduction, summarize
from jaxconv.runs import cli

NETS = {"first": "dense", "second": "lab6"}
NOTEBOOK = {"dense": 0.978, "lab6": 0.991}  # the test accuracies that 001 states
COUNTS = {"params": "parameters", "macs": "multiply-adds a digit"}
COLORS = {"dense": "#c8553d", "lab6": "#0b6e99"}


@dataclasses.dataclass(frozen=True)
class Config(lesson.Config):
    """The lesson's settings."""

    seeds: str = "10"
    """The seeds on which both nets are trained: how many, or a list, 3,7,11."""


def main(config: Config) -> dict[str, Any]:
    with lesson.lesson_folder("dense_vs_conv", config) as folder:
        result: dict[str, Any] = {}
        costs = {net: costs_by_layer(net) for net in NETS.values()}
        for net, cost in costs.items():
            result |= {f"{net}_{name}": sum(cost[name].values()) for name in COUNTS}
            counts = (f"{result[f'{net}_{name}']:,} {text}" for name, text in COUNTS.items())
            print(f"{net}: {', '.join(counts)}")
        errors = {net: 1 - accuracy for net, accuracy in NOTEBOOK.items()}
        result["notebook_error_saved_share"] = 1 - errors["lab6"] / errors["dense"]
        print(f"The notebook's accuracies: {result['notebook_error_saved_share']:.1%} saved")
        comparison = compare.main(
            *NETS.values(),
            seeds=config.seeds,
            output_dir=str(folder / "comparison"),
            overwrite=config.overwrite,
        )
        result |= comparison
        by_seed = {
            net: [1 - x for x in comparison.get(f"{side}_test_accuracy_by_seed", ())]
            for side, net in NETS.items()
        }
        by_seed = {net: values for net, values in by_seed.items() if values}  # none if all diverged
        result |= {f"{net}_error": summarize(values).mean for net, values in by_seed.items()}
        title = f"test error of {comparison['pairs']} seeds"
        if "error_saved_share" in comparison:
            saved = RelativeReduction(
                *(comparison[f"error_saved_{name}"] for name in RelativeReduction._fields)
            )
            title += f"\n{saved.share:.1%} saved{compare.interval(saved, '.1%')}"

        def draw(figure: Any) -> None:
            *panels, last = figure.subplots(1, 3)
            for axes, (name, text) in zip(panels, COUNTS.items(), strict=True):
                draw_layers(axes, {net: cost[name] for net, cost in costs.items()})
                axes.set_title(text, fontsize=10)
            draw_errors(last, by_seed)
            last.set_title(title, fontsize=10)

        return lesson.finish(folder, result, draw, figsize=(11, 4.2))


def costs_by_layer(net: str) -> dict[str, dict[str, int]]:
    """Counts parameters and multiply-adds on a digit for each layer that has parameters."""
    rows = [row for row in layer_rows(jaxconv.create_model(net), (28, 28, 1)) if row.params]
    return {name: {row.name: getattr(row, name) for row in rows} for name in COUNTS}


def draw_layers(axes: Any, costs: dict[str, dict[str, int]]) -> None:
    """Draws a bar for each net, with its layers on top of each other."""
    largest = max(sum(cost.values()) for cost in costs.values())
    for x, (net, cost) in enumerate(costs.items()):
        bottom = 0
        for layer, count in cost.items():
            axes.bar(x, count, 0.6, bottom, color=COLORS[net], edgecolor="white", alpha=0.85)
            if count > 0.04 * largest:  # there is room for the name
                style = {"ha": "center", "va": "center", "fontsize": 8, "color": "white"}
                axes.annotate(layer, (x, bottom + count / 2), **style)
            bottom += count
        style = {"ha": "center", "va": "bottom", "fontsize": 9}
        axes.annotate(f"{bottom:,}", (x, bottom), **style)
    axes.set(ylim=(0, 1.1 * largest), yticks=())
    finish_bars(axes, costs)
    axes.spines["left"].set_visible(False)


def draw_errors(axes: Any, errors: dict[str, list[float]]) -> None:
    """Draws the mean error of each net as a bar, and that of each seed as a dot."""
    for x, (net, values) in enumerate(errors.items()):
        mean = summarize(values).mean
        axes.bar(x, mean, 0.6, color=COLORS[net], alpha=0.45)
        beside = [x + 0.4 * ((i + 0.5) / len(values) - 0.5) for i in range(len(values))]
        axes.plot(beside, values, "o", ms=4, color=COLORS[net])
        style = {"ha": "center", "va": "bottom", "fontsize": 9}
        axes.annotate(f"{mean:.2%}", (x, 0), xytext=(0, 6), textcoords="offset points", **style)
    axes.yaxis.set_major_formatter("{x:.2%}")
    axes.tick_params(axis="y", labelsize=8)
    finish_bars(axes, errors)


def finish_bars(axes: Any, names: Collection[str]) -> None:
    """Names the bars of a panel, and removes its frame at the top and right."""
    axes.set(xticks=range(len(names)), xlim=(-0.6, len(names) - 0.4))
    axes.set_xticklabels(names)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cli(Config, main, __doc__)
