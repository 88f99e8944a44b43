import math

import pytest

from jaxconv.runs.plots import plot_run

HISTORY = [{"epoch": n, "loss": 1 / n, "accuracy": 1 - 0.1 / n} for n in (1, 2, 3)]
TEST = {"loss": 0.3, "accuracy": 0.95}


def history(*losses: float) -> list[dict]:
    return [{"epoch": i, "loss": x, "accuracy": 1 - x} for i, x in enumerate(losses, start=1)]


def labels(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


@pytest.mark.parametrize("validated", [False, True])
def test_the_curves_show_every_series_that_there_is(drawn, tmp_path, validated):
    more = {"val_loss": 0.4, "val_accuracy": 0.9} if validated else {}
    history = [row | more for row in HISTORY]
    plot_run([history], [TEST], [False], tmp_path / "x.png", title="a title")
    loss, accuracy = drawn[0].axes
    expected = ["train", "validation", "test 0.3000"] if validated else ["train", "test 0.3000"]
    assert [line.get_label() for line in loss.lines] == expected
    assert loss.lines[0].get_ydata().tolist() == [1, 1 / 2, 1 / 3]
    assert accuracy.lines[-1].get_label() == "test 0.9500"
    assert drawn[0].get_suptitle() == "a title"


def test_one_epoch_has_one_tick(drawn, tmp_path):
    plot_run([HISTORY[:1]], [TEST], [False], tmp_path / "x.png", title="one epoch")
    assert [x for x in drawn[0].axes[0].get_xticks() if 0.5 < x < 1.5] == [1]


def test_the_file_is_a_png(tmp_path):
    plot_run([HISTORY], [TEST], [False], tmp_path / "x.png", title="three epochs")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_every_seed_has_a_curve_and_the_mean_a_band(drawn, tmp_path):
    tests = [{"loss": 0.5, "accuracy": 0.75}, {"loss": 0.25, "accuracy": 1.0}]
    plot_run(
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
    plot_run(histories, [test, test], [False, True], tmp_path / "x.png", title="x")
    assert labels(drawn[0].axes[0]) == ["train", "test 0.5000", "1 of 2 diverged"]
    assert drawn[0].axes[0].get_ylim()[1] < 2
    assert drawn[0].get_suptitle() == "x"
    plot_run(histories[1:], [test], [True], tmp_path / "x.png", title="x")
    assert labels(drawn[1].axes[0]) == ["1 of 1 diverged"]
