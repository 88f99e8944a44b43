"""Crossentropy of integer and one-hot labels (notebook 000): are they equal, and which costs less?

    python experiments/lessons/losses.py

The loss of one-hot labels is -Σ y_true[i]·log softmax(logits)[i]; that of integer labels is
-log softmax(logits)[true class].

- 000 writes softmax(y_true) in the second formula, a slip: with 10 classes this loss is
  log(e + 9) - 1 = 1.4612 for all logits. Its gradient by the logits is 0, and the net would learn
  nothing.
- The two agree in value and gradient to float32's rounding: losses up to 24 differ by 4e-06,
  gradients up to 1 by 6e-08.
- 000 calls integer labels "slightly more computationally efficient". The lesson measures loss and
  gradient of 128 samples on two CPU cores. With 10 classes all take the same 0.03 ms. With 100,
  one-hot labels take 1.3 times as long. With 100,000 they take 2.2 times as long if they are given
  and 1.9 times if the step makes them, 62 and 54 ms against 29. This is more than slightly.
- 000's reason, "because it avoids the explicit conversion", hardly counts: labels given as one-hot
  need no conversion in the step and are nearly always the slowest. By XLA's count, one-hot labels
  cost temporaries of twice the logits' size.
- 000 calls integer labels "more memory-efficient". They always take less than labels given as
  one-hot; from 100 classes on they take less than labels that the step makes one-hot. Besides
  logits and gradient, integer labels take 4 KiB with any number of classes; with 100,000 classes
  one-hot labels take 154 MB if they are given, and 102 MB if the step makes them.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from experiments.lessons import lesson
from jaxconv import categorical_crossentropy, one_hot_labels, sparse_categorical_crossentropy
from jaxconv._checks import check_positive
from jaxconv.runs import cli

MIN_SAMPLE_SECONDS = 0.05  # so that one sample of the timing has many calls of microseconds
Logits = Float[Array, "batch classes"]
Labels = Int[Array, " batch"]
OneHotLabels = Float[Array, "batch classes"]
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
    """How many samples a step has."""
    rounds: int = 9
    """The rounds of the timing; the three steps take turns in each."""
    seed: int = 0
    """The seed of the logits and labels."""


class CompiledStep(NamedTuple):
    """A compiled loss and gradient, and its arguments."""

    compiled: Any
    logits: jax.Array
    labels: jax.Array
    calls: int = 1
    """How many calls make one sample of the timing."""


def main(config: Config) -> dict[str, Any]:
    for name in ("batch_size", "rounds"):
        check_positive(name, getattr(config, name))
    if not config.classes or min(config.classes) < 2:
        raise ValueError(
            f"classes must be one number or more, all from 2 on, not {config.classes}."
        )
    with lesson.lesson_folder("losses", config) as folder:
        slipped = slip(10, config.seed)
        low, high, gradient = slipped.values()
        print(
            f"000's formula: {low:.4f} to {high:.4f} for all samples, gradients up to {gradient:g}"
        )
        rows = []
        for classes in config.classes:
            rows.append(measure(classes, config))
            print(row_text(rows[-1]))
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        result = {**slipped, **columns}

        def draw(figure: Any) -> None:
            draw_panels(figure, result, config.batch_size)

        return lesson.finish(folder, result, draw, figsize=(11, 4.5))


def slip_loss(logits: Logits, labels: Labels) -> Float[Array, " batch"]:
    """Computes 000's formula as written, -log softmax(y_true)[true class], without the logits."""
    return sparse_categorical_crossentropy(jax.nn.one_hot(labels, logits.shape[-1]), labels)


def slip(classes: int, seed: int) -> dict[str, float]:
    """Finds the range of 000's formula over random samples, and its largest gradient."""
    logits, labels = random_batch(classes, 1000, seed)
    values = slip_loss(logits, labels)
    gradient = jax.grad(lambda x: slip_loss(x, labels).sum())(logits)
    return {
        "slip_loss_low": float(values.min()),
        "slip_loss_high": float(values.max()),
        "slip_largest_gradient": float(jnp.abs(gradient).max()),
    }


def random_batch(classes: int, samples: int, seed: int) -> tuple[Logits, Labels]:
    """Draws logits of standard deviation 3, and integer labels."""
    logits_key, labels_key = jax.random.split(jax.random.key(seed))
    logits = 3 * jax.random.normal(logits_key, (samples, classes))
    return logits, jax.random.randint(labels_key, (samples,), 0, classes)


def measure(classes: int, config: Config) -> dict[str, Any]:
    """Measures with so many classes how far the three differ, their seconds and their bytes."""
    logits, labels = random_batch(classes, config.batch_size, config.seed)
    one_hot = jax.nn.one_hot(labels, classes)
    steps, outputs = {}, {}
    row: dict[str, Any] = {"classes": classes}
    for name, (loss, _) in CONTENDERS.items():
        step = prepare(loss, logits, one_hot if name == "given" else labels)
        gradient, values = call(step._replace(calls=1))
        steps[name], outputs[name] = step, (np.asarray(values), np.asarray(gradient))
        analysis = step.compiled.memory_analysis()
        row[f"{name}_label_bytes"] = step.labels.nbytes
        row[f"{name}_temporary_bytes"] = analysis and analysis.temp_size_in_bytes
    for i, key in enumerate(("loss", "gradient")):
        first, *others = (output[i] for output in outputs.values())
        row[f"{key}_largest"] = float(np.abs(first).max())
        row[f"{key}_difference"] = max(float(np.abs(x - first).max()) for x in others)
    return row | time_steps(steps, config.rounds)


def prepare(
    loss: Callable[..., jax.Array], logits: Logits, labels: Labels | OneHotLabels
) -> CompiledStep:
    """Compiles the loss of each sample and its gradient by the logits, and warms the step up."""

    def loss_fn(
        logits: Logits, labels: Labels | OneHotLabels
    ) -> tuple[Float[Array, ""], Float[Array, " batch"]]:
        values = loss(logits, labels)
        return values.sum(), values

    compiled = jax.jit(jax.grad(loss_fn, has_aux=True)).lower(logits, labels).compile()
    step = CompiledStep(compiled, logits, labels)
    shortest = min(sample_seconds(step) for _ in range(5))
    return step._replace(calls=max(1, round(MIN_SAMPLE_SECONDS / shortest)))


def call(step: CompiledStep) -> Any:
    """Calls the step `calls` times, and returns the last gradient and loss of each sample."""
    output = [step.compiled(step.logits, step.labels) for _ in range(step.calls)][-1]
    return jax.block_until_ready(output)


def sample_seconds(step: CompiledStep) -> float:
    """Takes one sample of the timing: the mean seconds of its calls."""
    began = time.perf_counter()
    call(step)
    return (time.perf_counter() - began) / step.calls


def time_steps(steps: dict[str, CompiledStep], rounds: int) -> dict[str, float]:
    """Times the steps: seconds of a call, and their ratio to `sparse` in the same round.

    Returns:
      The median of each, and its range as `NAME_low` and `NAME_high`.
    """
    samples: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for _ in range(rounds):
        names.append(names.pop(0))  # no step is always the first
        for name in names:
            samples[name].append(sample_seconds(steps[name]))
    series = {f"{name}_seconds": values for name, values in samples.items()}
    for name in ("given", "made"):
        pairs = zip(samples[name], samples["sparse"], strict=True)
        series[f"{name}_ratio"] = [value / sparse for value, sparse in pairs]
    ends = {"": statistics.median, "_low": min, "_high": max}
    return {f"{name}{end}": f(values) for name, values in series.items() for end, f in ends.items()}


def row_text(row: dict[str, Any]) -> str:
    """The lines that the lesson prints for one number of classes."""
    lines = [
        "{classes:,} classes: losses up to {loss_largest:.3g} differ by {loss_difference:.0e}, "
        "gradients up to {gradient_largest:.2g} by {gradient_difference:.0e}".format(**row)
    ]
    for name, (_, title) in CONTENDERS.items():
        labels, temporaries = row[f"{name}_label_bytes"], row[f"{name}_temporary_bytes"]
        temporary_text = "not known here" if temporaries is None else f"{temporaries:,}"
        ratios = [row.get(f"{name}_ratio{end}", 1.0) for end in ("", "_low", "_high")]
        ratio_text = "× {:.2f} ({:.2f} to {:.2f})".format(*ratios)
        lines.append(
            f"  {title}: {1e3 * row[f'{name}_seconds']:.3f} ms, {ratio_text}; "
            f"bytes of labels {labels:,}, of temporaries {temporary_text}"
        )
    return "\n".join(lines)


def draw_panels(figure: Any, result: dict[str, Any], batch_size: int) -> None:
    """Draws seconds with their range, and bytes besides the logits and their gradient."""
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
    counted = "labels and XLA's temporaries" if known else "labels (temporaries are not known here)"
    right.set_title(f"bytes besides logits and gradient: {counted}", fontsize=9)
    for axes in (left, right):
        axes.set(xscale="log", yscale="log")
        axes.set_xlabel("classes", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    cli(Config, main, __doc__)
