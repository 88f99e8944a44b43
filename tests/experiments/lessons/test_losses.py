import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.lessons import losses

NAMES = tuple(losses.CONTENDERS)


def formula(logits, labels) -> tuple[np.ndarray, np.ndarray]:
    """-log softmax(logits)[true class] of each sample, and its gradient, in float64."""
    logits = np.asarray(logits, np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax = odds / odds.sum(axis=1, keepdims=True)
    one_hot = np.eye(logits.shape[1])[np.asarray(labels)]
    return -np.log((softmax * one_hot).sum(axis=1)), softmax - one_hot


@pytest.mark.parametrize("name", NAMES)
def test_every_contender_computes_the_formula(name):
    logits, labels = losses.random_batch(7, 20, seed=3)
    given = jnp.eye(7)[labels] if name == "given" else labels
    step = losses.prepare(losses.CONTENDERS[name][0], logits, given)
    gradient, values = losses.call(step)
    expected_values, expected_gradient = formula(logits, labels)
    np.testing.assert_allclose(values, expected_values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)
    assert step.calls >= 1


@pytest.mark.parametrize("classes", [2, 10])
def test_000s_formula_is_a_constant_with_no_gradient(classes):
    slip = losses.slip(classes, seed=0)
    constant = math.log(math.e + classes - 1) - 1  # of a one-hot vector's softmax
    assert slip["slip_loss_low"] == pytest.approx(constant, rel=1e-6)
    assert slip["slip_loss_high"] == pytest.approx(constant, rel=1e-6)
    assert slip["slip_largest_gradient"] == 0


def test_all_take_turns_in_every_round(monkeypatch):
    taken = []
    clock = {"sparse": iter([1.0, 2.0, 8.0]), "given": iter([3.0, 4.0, 8.0])}
    clock["made"] = iter([2.0, 2.0, 2.0])

    def sample_seconds(name):
        taken.append(name)
        return next(clock[name])

    monkeypatch.setattr(losses, "sample_seconds", sample_seconds)
    result = losses.time_steps({name: name for name in NAMES}, rounds=3)
    assert [set(taken[i : i + 3]) for i in (0, 3, 6)] == [set(NAMES)] * 3
    assert set(taken[::3]) == set(NAMES)  # the first of the rounds
    assert [result[f"sparse_seconds{end}"] for end in ("_low", "", "_high")] == [1, 2, 8]
    assert [result[f"given_ratio{end}"] for end in ("_low", "", "_high")] == [1, 2, 3]
    assert [result[f"made_ratio{end}"] for end in ("_low", "", "_high")] == [0.25, 1, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ()}, r"classes must be one number or more, all from 2 on, not \(\)"),
        ({"classes": (10, 1)}, r"all from 2 on, not \(10, 1\)"),
        ({"batch_size": 0}, "batch_size must be a positive integer, not 0"),
        ({"rounds": 0}, "rounds must be a positive integer, not 0"),
    ],
)
def test_bad_settings_are_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        losses.main(losses.Config(output_dir=str(tmp_path / "x"), **settings))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def short_samples(monkeypatch):
    monkeypatch.setattr(losses, "MIN_SAMPLE_SECONDS", 1e-4)


@pytest.mark.usefixtures("short_samples")
def test_the_lesson_writes_its_figures_and_its_picture(tmp_path, capsys):
    settings = {"classes": (10, 300), "batch_size": 4, "rounds": 2}
    result = losses.main(losses.Config(output_dir=str(tmp_path), **settings))
    assert json.loads((tmp_path / "result.json").read_text()) == result
    picture = (tmp_path / "picture.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert 10_000 < len(picture) < 1_000_000
    assert "300 classes: losses up to" in capsys.readouterr().out

    assert result["classes"] == [10, 300]
    assert result["sparse_label_bytes"] == result["made_label_bytes"] == [4 * 4] * 2
    assert result["given_label_bytes"] == [4 * 4 * 10, 4 * 4 * 300]
    assert result["slip_loss_low"] == pytest.approx(math.log(math.e + 9) - 1, rel=1e-6)
    logits, labels = losses.random_batch(300, 4, seed=0)
    values, gradient = formula(logits, labels)
    assert result["loss_largest"][1] == pytest.approx(values.max(), rel=1e-5)
    assert result["gradient_largest"][1] == pytest.approx(np.abs(gradient).max(), rel=1e-5)
    assert max(result["loss_difference"]) < 1e-5
    assert max(result["gradient_difference"]) < 1e-6
    for name in NAMES:
        columns = zip(
            *(result[f"{name}_seconds{end}"] for end in ("_low", "", "_high")), strict=True
        )
        assert all(0 < low <= middle <= high for low, middle, high in columns)
    assert result["backend"]


class WithoutMemoryReport:
    """A compiled step of a backend that does not report its memory."""

    def __init__(self, compiled):
        self.compiled = compiled

    def __call__(self, *arguments):
        return self.compiled(*arguments)

    def memory_analysis(self):
        return None


@pytest.mark.usefixtures("short_samples")
def test_unknown_temporaries_are_printed_as_unknown(tmp_path, monkeypatch, capsys):
    prepare = losses.prepare

    def without_report(*arguments):
        step = prepare(*arguments)
        return step._replace(compiled=WithoutMemoryReport(step.compiled))

    monkeypatch.setattr(losses, "prepare", without_report)
    config = losses.Config(output_dir=str(tmp_path), classes=(10,), batch_size=4, rounds=1)
    assert losses.main(config)["sparse_temporary_bytes"] == [None]
    assert "of temporaries not known here" in capsys.readouterr().out
    assert (tmp_path / "picture.png").exists()
