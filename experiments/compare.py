"""Compares two configurations on the same seeds: difference, confidence interval, paired test.

    python experiments/compare.py strided "strided --padding same"
    python experiments/compare.py strided "strided --activation relu"
    python experiments/compare.py dense lab6

A configuration is an experiment's name with its options. A seed gives both sides the same order of
the data if their batches have the same size, and the same initial parameters if their shapes are
equal. Effects that both sides share cancel in the differences. The comparison's folder has both
runs, `result.json` and `differences.png`.
"""

import argparse
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.recipes import EXPERIMENTS
from jaxconv._checks import check_choice, check_installed
from jaxconv.measure import RelativeReduction, Summary, paired_t_test, relative_reduction, summarize
from jaxconv.runs import Config, Plan, exit_codes, name_seeds, parse_seeds
from jaxconv.runs import files as run_files
from jaxconv.runs import folder as run_folder
from jaxconv.runs.plots import COLORS

RESERVED = ("seed", "seeds", "output_dir", "overwrite", "export_keras", "resume", "quiet")
"""Settings that the comparison makes itself, or that make no sense for a side of it."""


def main(
    first: str,
    second: str,
    seeds: str = "10",
    output_dir: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    check_installed("run")
    numbers = parse_seeds(seeds)
    if len(numbers) < 2:
        raise ValueError(f"seeds must be two or more to compare, not {seeds!r}.")
    if overwrite and output_dir is None:
        raise ValueError("overwrite needs output_dir: folders in runs/ never replace each other.")
    sides = {"first": first, "second": second}
    listed = ",".join([*map(str, numbers), ""])
    runs = {side: configuration(text, listed) for side, text in sides.items()}
    with run_folder.new_run_folder("compare", output_dir, overwrite=overwrite) as folder:
        for side in sides:  # refuse or delete an old run before anything is trained
            with run_folder.new_run_folder("", str(folder / side), overwrite=overwrite):
                pass
        return compare(sides, runs, numbers, seeds, folder)


def compare(
    sides: dict[str, str],
    runs: dict[str, tuple[Any, Any]],
    numbers: tuple[int, ...],
    seeds: str,
    folder: Path,
) -> dict[str, Any]:
    """Runs both sides in the folder, and writes the figures and the picture."""
    first, second = sides.values()
    run_files.write_json(folder / run_folder.CONFIG, {**sides, "seeds": seeds})
    results = {}
    for side, (module, config) in runs.items():
        print(f"{side}: {sides[side]}, {name_seeds(numbers)}", flush=True)
        results[side] = module.main(config.replace(output_dir=str(folder / side)))
    content = {**sides, **differences(results["first"], results["second"])}
    content |= {k: results["first"][k] for k in ("device_kind", "jax_version", "jaxlib_version")}
    run_files.write_json(folder / run_folder.RESULT, content)
    print(f"\n{table(content)}")
    if not content["pairs"]:
        print(f"There is nothing to draw: {run_folder.DIFFERENCES} is left out.")
    else:
        accuracy = {side: content[f"{side}_test_accuracy_by_seed"] for side in sides}
        title = f"first: {first}; second: {second}; {content['pairs']} seeds"
        plot_pairs(accuracy, folder / run_folder.DIFFERENCES, ylabel="test accuracy", title=title)
    print(f"Comparison: {folder}")
    return content


def configuration(text: str, seeds: str) -> tuple[Any, Any]:
    """Reads an experiment's name with its options.

    Returns:
      The experiment's module and its settings.

    Raises:
      ValueError: for an unknown experiment, a setting in `RESERVED`, or one that makes no sense.
    """
    import tyro

    name, *arguments = shlex.split(text) or [""]
    check_choice("experiment", name, EXPERIMENTS)
    module = EXPERIMENTS[name]
    options = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
    config = tyro.cli(Config, args=arguments, prog=name, default=module.CONFIG, config=options)
    given, default = flat(config), flat(module.CONFIG)
    for name in RESERVED:
        if given[name] != default[name]:
            option = name.replace("_", "-")
            raise ValueError(f"{text!r} sets --{option}, which is not for a side of a comparison.")
    config = config.replace(seeds=seeds, quiet=True)
    Plan.of(module.RECIPE, config)
    return module, config


def flat(config: Config) -> dict[str, Any]:
    """The settings by their names, without their groups."""
    groups = dataclasses.asdict(config).values()
    return {name: x for group in groups for name, x in group.items()}


def differences(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The paired figures of two results of the same seeds, without the seeds that diverged."""
    away = sorted({*first["diverged"], *second["diverged"]})
    kept = [i for i, seed in enumerate(first["seeds"]) if seed not in away]
    content: dict[str, Any] = {"seeds": first["seeds"], "diverged": away, "pairs": len(kept)}
    for name in ("test_accuracy", "test_loss") if kept else ():
        pair = [[result[f"{name}_by_seed"][i] for i in kept] for result in (first, second)]
        test = paired_t_test(*pair)
        content |= {f"first_{name}_by_seed": pair[0], f"second_{name}_by_seed": pair[1]}
        content |= {f"{name}_difference_{k}": x for k, x in test.difference._asdict().items()}
        content[f"{name}_p"] = test.p
    if kept:
        accuracies = (content[f"{side}_test_accuracy_by_seed"] for side in ("first", "second"))
        saved = relative_reduction(*([1 - x for x in side] for side in accuracies))
        content |= {f"error_saved_{k}": x for k, x in saved._asdict().items()} if saved else {}
    return content


def table(content: dict[str, Any]) -> str:
    """The lines that a comparison prints."""
    lines, n = [], content["pairs"]
    for name in ("test_accuracy", "test_loss") if n else ():
        difference, p = figures(content, f"{name}_difference"), content[f"{name}_p"]
        why = "one pair" if n == 1 else "the differences are equal"
        test = f"no test: {why}" if p is None else f"paired t-test p = {p:.2g}"
        sides = [summarize(content[f"{side}_{name}_by_seed"]) for side in ("first", "second")]
        lines += [
            f"{name.replace('_', ' ').capitalize()}: {sides[0]} first, {sides[1]} second",
            f"  difference {difference.mean:+.4f}{interval(difference, '+.4f')}; {test}",
        ]
    if "error_saved_share" in content:
        saved = RelativeReduction(
            *(content[f"error_saved_{field}"] for field in RelativeReduction._fields)
        )
        lines.append(f"Error saved: {saved.share:.1%} of the first's{interval(saved, '.1%')}")
    elif n:
        lines.append("Error saved: no figure, as the first has hardly any error")
    if content["diverged"]:
        lines.append(f"Left out, as a side diverged: {name_seeds(content['diverged'])}")
    return "\n".join([*lines, f"{n} pairs; ± is one standard deviation"])


def figures(content: dict[str, Any], name: str) -> Summary:
    """The summary that a result holds under this name."""
    return Summary(*(content[f"{name}_{field}"] for field in Summary._fields))


def interval(estimate: Summary | RelativeReduction, style: str) -> str:
    """The 95% interval in brackets, its ends formatted with `style`; empty if there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f" (95% interval {estimate.low:{style}} to {estimate.high:{style}})"


def draw_pairs(
    axes: Any, sides: Mapping[str, Sequence[float]], *, ms: float = 4, lw: float = 0.8
) -> None:
    """Draws both figures of each seed, joined by a line.

    Args:
      axes: matplotlib's.
      sides: the finite figures of two settings, one a seed, by the setting's name.
      ms: the size of the markers in points.
      lw: the width of the lines in points.
    """
    for pair in zip(*sides.values(), strict=True):
        axes.plot((0, 1), pair, "o-", ms=ms, lw=lw, alpha=0.6, color=COLORS["train"])
    axes.set(xlim=(-0.3, 1.3), xticks=(0, 1))
    axes.set_xticklabels(list(sides))


def plot_pairs(
    sides: Mapping[str, Sequence[float]], path: Path, *, ylabel: str, title: str
) -> None:
    """Draws two settings seed by seed, and their differences with the mean's 95% interval.

    Args:
      sides: the finite figures of two settings, one a seed, by the setting's name.
      path: the PNG to write.
      ylabel: the name of the figure.
      title: the line on top.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    draw_pairs(left, sides)
    left.set(ylabel=ylabel)
    differences = [b - a for a, b in zip(*sides.values(), strict=True)]
    mean = summarize(differences)
    right.axhline(0, lw=1, color="#444444")
    right.plot([0] * len(differences), differences, "o", ms=4, alpha=0.6, color=COLORS["train"])
    if mean.low is not None and mean.high is not None:
        reach = [[mean.mean - mean.low], [mean.high - mean.mean]]
        right.errorbar([0.4], [mean.mean], reach, fmt="o", capsize=4, color=COLORS["test"])
    right.set(xlim=(-0.3, 0.7), xticks=(0, 0.4), ylabel=f"difference of {ylabel}")
    right.set_xticklabels(["each seed", "mean,\n95% interval"])
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, axis="y")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", help="An experiment with its options, quoted.")
    parser.add_argument("second", help="Another, or the same with other options.")
    parser.add_argument("--seeds", default="10", help="How many, or a list: 3,7,11 (10).")
    parser.add_argument("--output-dir", help="The folder (the next free runs/compare-N).")
    parser.add_argument("--overwrite", action="store_true", help="Replace what it holds.")
    with exit_codes():
        given = parser.parse_args()
        main(given.first, given.second, given.seeds, given.output_dir, given.overwrite)
