"""Crossentropy with integer and with one-hot labels (notebook 000): equal, but not in cost.

    python experiments/lessons/losses.py

One-hot labels: -Σ y_true[i]·log softmax(logits)[i]. Integer ones: -log softmax(logits)[true class].

- 000 writes softmax(y_true) in the second, a slip: with 10 classes that is log(e + 9) - 1 = 1.4612
  whatever the net says; its gradient by the logits is 0, and nothing would be learned.
- The two agree in value and gradient to float32's rounding: losses up to 24 differ by 4e-06,
  gradients up to 1 by 6e-08.
- "Slightly more computationally efficient": loss and gradient of 128 samples on two CPU cores. With
  10 classes all take the same 0.03 ms. With 100 one-hot labels take 1.3 times as long, with 100,000
  2.2 times where they are given and 1.9 where the step makes them, 62 and 54 ms against 29: no
  longer slightly.
- "Because it avoids the explicit conversion": hardly. Labels given as one-hot need none in the step
  and are nearly always the slowest. What comes with one-hot labels, by XLA's count, are temporaries
  of twice the logits' size.
- "More memory-efficient": than labels given one-hot always, than those that the step makes from 100
  classes on. Besides logits and gradient, integer labels take 4 KiB with any number of classes;
  one-hot ones, with 100,000, 154 MB given and 102 MB made inside the step.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lessons import lesson
from jaxconv import categorical_crossentropy, one_hot_labels, sparse_categorical_crossentropy
from jaxconv._checks import check_positive
from jaxconv.runs.cli import cli

BLOCK_SECONDS = 0.05  # the least that a sample lasts, so that calls of microseconds go in blocks
CONTENDERS: dict[str, tuple[Callable[..., jax.Array], str]] = {
    "sparse": (sparse_categorical_crossentropy, "integer labels"),
    "given": (categorical_crossentropy, "one-hot labels, given"),
    "made": (one_hot_labels(categorical_crossentropy), "one-hot labels, made in the step"),
}
STYLES = {
    "sparse": {"color": "#0b6e99", "marker": "o"},
    "given": {"color": "#c8553d", "marker": "s"},
    "made": {"color": "#c28f0e", "marker": "^", "ls": "--"},
}


@dataclasses.dataclass(frozen=True)
class Config(lesson.Config):
    """The lesson's settings."""

    classes: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000)
    """The numbers of classes to measure with."""
    batch_size: int = 128
    """Samples a step."""
    rounds: int = 9
    """Of the timing; the three take turns in each."""
    seed: int = 0
    """Of the logits and labels."""


class Step(NamedTuple):
    """A compiled loss and gradient, and what it is called with."""

    compiled: Any
    logits: jax.Array
    labels: jax.Array
    calls: int = 1
    """How many make a sample of the timing."""


def main(config: Config) -> dict[str, Any]:
    for name in ("batch_size", "rounds"):
        check_positive(name, getattr(config, name))
    if not config.classes or min(config.classes) < 2:
        raise ValueError(f"classes are one number or more, each from 2 on, not {config.classes}.")
    with lesson.lesson_folder("losses", config) as folder:
        slipped = slip(10, config.seed)
        low, high, gradient = slipped.values()
        print(
            f"000's formula: {low:.4f} to {high:.4f} for all samples, gradient up to {gradient:g}"
        )
        rows = []
        for classes in config.classes:
            rows.append(measure(classes, config))
            print(table(rows[-1]))
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        result = {**slipped, **columns}

        def draw(figure: Any) -> None:
            draw_panels(figure, result, config.batch_size)

        return lesson.finish(folder, result, draw, figsize=(11, 4.5))


def slip_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """000's formula as written, -log softmax(y_true)[true class]: it does not use the logits."""
    return sparse_categorical_crossentropy(jax.nn.one_hot(labels, logits.shape[-1]), labels)


def slip(classes: int, seed: int) -> dict[str, float]:
    """The range of 000's formula over random samples, and its largest gradient by the logits."""
    logits, labels = random_batch(classes, 1000, seed)
    values = slip_loss(logits, labels)
    gradient = jax.grad(lambda x: slip_loss(x, labels).sum())(logits)
    return {
        "slip_loss_low": float(values.min()),
        "slip_loss_high": float(values.max()),
        "slip_largest_gradient": float(jnp.abs(gradient).max()),
    }


def random_batch(classes: int, samples: int, seed: int) -> tuple[jax.Array, jax.Array]:
    """Logits of standard deviation 3, and integer labels."""
    for_logits, for_labels = jax.random.split(jax.random.key(seed))
    logits = 3 * jax.random.normal(for_logits, (samples, classes))
    return logits, jax.random.randint(for_labels, (samples,), 0, classes)


def measure(classes: int, config: Config) -> dict[str, Any]:
    """How far the three differ with so many classes, their seconds and their bytes."""
    logits, labels = random_batch(classes, config.batch_size, config.seed)
    one_hot = jax.nn.one_hot(labels, classes)
    steps, outputs = {}, {}
    row: dict[str, Any] = {"classes": classes}
    for name, (loss, _) in CONTENDERS.items():
        step = prepare(loss, logits, one_hot if name == "given" else labels)
        gradient, values = run(step._replace(calls=1))
        steps[name], outputs[name] = step, (np.asarray(values), np.asarray(gradient))
        analysis = step.compiled.memory_analysis()
        row[f"{name}_label_bytes"] = step.labels.nbytes
        row[f"{name}_temporary_bytes"] = analysis and analysis.temp_size_in_bytes
    for i, what in enumerate(("loss", "gradient")):
        first, *others = (output[i] for output in outputs.values())
        row[f"{what}_largest"] = float(np.abs(first).max())
        row[f"{what}_difference"] = max(float(np.abs(x - first).max()) for x in others)
    return row | seconds(steps, config.rounds)


def prepare(loss: Callable[..., jax.Array], logits: jax.Array, labels: jax.Array) -> Step:
    """Compiles each sample's loss and gradient by its logits, and runs them warm."""

    def total(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = loss(logits, labels)
        return values.sum(), values

    compiled = jax.jit(jax.grad(total, has_aux=True)).lower(logits, labels).compile()
    step = Step(compiled, logits, labels)
    shortest = min(sample(step) for _ in range(5))
    return step._replace(calls=max(1, round(BLOCK_SECONDS / shortest)))


def run(step: Step) -> Any:
    output = [step.compiled(step.logits, step.labels) for _ in range(step.calls)][-1]
    return jax.block_until_ready(output)


def sample(step: Step) -> float:
    """Seconds of one call, the mean over a block."""
    began = time.perf_counter()
    run(step)
    return (time.perf_counter() - began) / step.calls


def seconds(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Medians and ranges of a call's seconds, and of their ratio to `sparse` in the same round."""
    samples: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for _ in range(rounds):
        names.append(names.pop(0))  # none is always the first
        for name in names:
            samples[name].append(sample(steps[name]))
    series = {f"{name}_seconds": values for name, values in samples.items()}
    for name in ("given", "made"):
        pairs = zip(samples[name], samples["sparse"], strict=True)
        series[f"{name}_ratio"] = [value / sparse for value, sparse in pairs]
    ends = {"": statistics.median, "_low": min, "_high": max}
    return {f"{name}{end}": f(values) for name, values in series.items() for end, f in ends.items()}


def table(row: dict[str, Any]) -> str:
    lines = [
        "{classes:,} classes: losses up to {loss_largest:.3g} differ by {loss_difference:.0e}, "
        "gradients up to {gradient_largest:.2g} by {gradient_difference:.0e}".format(**row)
    ]
    for name, (_, title) in CONTENDERS.items():
        labels, temporaries = row[f"{name}_label_bytes"], row[f"{name}_temporary_bytes"]
        known = "not known here" if temporaries is None else f"{temporaries:,}"
        ratios = [row.get(f"{name}_ratio{end}", 1.0) for end in ("", "_low", "_high")]
        against = "× {:.2f} ({:.2f} to {:.2f})".format(*ratios)
        time = f"{1e3 * row[f'{name}_seconds']:.3f} ms, {against}"
        lines.append(f"  {title}: {time}; bytes of labels {labels:,}, of temporaries {known}")
    return "\n".join(lines)


def draw_panels(figure: Any, result: dict[str, Any], batch_size: int) -> None:
    """Seconds with their range, and bytes besides the logits and their gradient."""
    left, right = figure.subplots(1, 2)
    classes, known = result["classes"], None not in result["sparse_temporary_bytes"]
    for name, (_, label) in CONTENDERS.items():
        middle, low, high = (
            1e3 * np.asarray(result[f"{name}_seconds{end}"]) for end in ("", "_low", "_high")
        )
        style = {"ms": 4, "lw": 1.2, "label": label, **STYLES[name]}
        left.errorbar(classes, middle, (middle - low, high - middle), capsize=2, **style)
        both = zip(result[f"{name}_label_bytes"], result[f"{name}_temporary_bytes"], strict=True)
        right.plot(classes, [labels + (temporary or 0) for labels, temporary in both], **style)
    left.set_title(f"loss and gradient of {batch_size} samples: ms a call", fontsize=9)
    what = "labels and XLA's temporaries" if known else "labels (temporaries are not known here)"
    right.set_title(f"bytes besides logits and gradient: {what}", fontsize=9)
    for axes in (left, right):
        axes.set(xscale="log", yscale="log")
        axes.set_xlabel("classes", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cli(Config, main, __doc__)
