import math

import pytest

from jaxconv.runs.seed_plots import plot_pairs, plot_seeds, plot_sweep


@pytest.fixture
def drawn(monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    return figures


def history(*losses: float) -> list[dict]:
    return [{"epoch": i, "loss": x, "accuracy": 1 - x} for i, x in enumerate(losses, start=1)]


def labels(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_every_seed_has_a_curve_and_the_mean_a_band(drawn, tmp_path):
    tests = [{"loss": 0.5, "accuracy": 0.75}, {"loss": 0.25, "accuracy": 1.0}]
    plot_seeds(
        [history(1.0, 0.5), history(0.5, 0.25)],
        tests,
        [False] * 2,
        tmp_path / "x.png",
        title="a title",
    )
    loss, accuracy = drawn[0].axes
    curves = [line.get_ydata() for line in loss.lines]
    assert [list(curve) for curve in curves[:3]] == [[1.0, 0.5], [0.5, 0.25], [0.75, 0.375]]
    (band,) = [c for c in loss.collections if len(c.get_paths()[0].vertices) > 5]
    heights = band.get_paths()[0].vertices[:, 1]
    deviation = 0.5 / math.sqrt(2)  # of 1 and 0.5, with n - 1
    assert (min(heights), max(heights)) == pytest.approx((0.375 - deviation / 2, 0.75 + deviation))
    assert labels(accuracy) == ["train", "test 0.8750 ± 0.1768"]
    assert drawn[0].get_suptitle() == "a title, mean ± std"


def test_a_seed_that_diverged_is_counted_and_in_no_mean(drawn, tmp_path):
    test = {"loss": 0.5, "accuracy": 0.75}
    histories = [history(1.0, 0.5), history(1e20, math.nan)]
    plot_seeds(histories, [test, test], [False, True], tmp_path / "x.png", title="x")
    assert labels(drawn[0].axes[0]) == ["train", "test 0.5000", "1 of 2 diverged"]
    assert drawn[0].axes[0].get_ylim()[1] < 2
    assert drawn[0].get_suptitle() == "x"
    plot_seeds(histories[1:], [test], [True], tmp_path / "x.png", title="x")
    assert labels(drawn[1].axes[0]) == ["1 of 1 diverged"]


def test_a_sweep_shows_means_seeds_and_where_they_diverged(drawn, tmp_path):
    groups = {0.1: [0.9, 0.95], 0.001: [0.75, 0.25], 10.0: [0.5, math.nan], 100.0: [math.nan] * 2}
    plot_sweep(groups, tmp_path / "x.png", xlabel="rate", ylabel="accuracy", title="a title")
    (axes,) = drawn[0].axes
    assert list(axes.lines[0].get_xdata()) == [0.001, 0.1, 10.0]
    assert list(axes.lines[0].get_ydata()) == pytest.approx([0.5, 0.925, 0.5])
    assert labels(axes) == ["mean ± std", "one seed", "diverged"]
    assert list(axes.lines[2].get_xdata()) == [10.0, 100.0]
    assert [text.get_text() for text in axes.texts] == ["1 of 2", "2 of 2"]
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "rate", "accuracy")


def test_pairs_show_both_settings_and_the_differences(drawn, tmp_path):
    sides = {"valid": [0.5, 0.75], "same": [0.625, 1.0]}
    plot_pairs(sides, tmp_path / "x.png", ylabel="accuracy", title="a title")
    left, right = drawn[0].axes
    assert [list(line.get_ydata()) for line in left.lines] == [[0.5, 0.625], [0.75, 1.0]]
    assert [text.get_text() for text in left.get_xticklabels()] == ["valid", "same"]
    assert list(right.lines[1].get_ydata()) == [0.125, 0.25]
    assert right.lines[2].get_ydata()[0] == 0.1875
    assert right.get_ylabel() == "difference of accuracy"


def test_the_files_are_pngs(tmp_path):
    plot_sweep({1.0: [math.nan]}, tmp_path / "a.png", xlabel="x", ylabel="y", title="none")
    plot_pairs({"a": [1.0], "b": [2.0]}, tmp_path / "b.png", ylabel="y", title="one seed")
    for name in ("a.png", "b.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
