import pytest

from jaxconv.plots import plot_history, plot_parity

HISTORY = [{"epoch": n, "loss": 1 / n, "accuracy": 1 - 0.1 / n} for n in (1, 2, 3)]
TEST = {"loss": 0.3, "accuracy": 0.95}


@pytest.mark.parametrize("validated", [False, True])
def test_the_curves_show_every_series_that_there_is(tmp_path, monkeypatch, validated):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    more = {"val_loss": 0.4, "val_accuracy": 0.9} if validated else {}
    plot_history([row | more for row in HISTORY], TEST, tmp_path / "x.png", title="a title")
    loss, accuracy = drawn[0].axes
    labels = ["train", "validation", "test 0.3000"] if validated else ["train", "test 0.3000"]
    assert [line.get_label() for line in loss.lines] == labels
    assert loss.lines[0].get_ydata().tolist() == [1, 1 / 2, 1 / 3]
    assert accuracy.lines[-1].get_label() == "test 0.9500"
    assert drawn[0].get_suptitle() == "a title"


def test_the_file_is_a_png(tmp_path):
    plot_history(HISTORY[:1], TEST, tmp_path / "x.png", title="one epoch")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_parity_shows_both_sides_and_their_distance(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    theirs = {"loss": [0.5, 0.25], "val_loss": [0.5, 0.5]}
    result = {"keras": theirs, "jaxconv": {"loss": [0.5, 0.75], "val_loss": [0.5, 0.5]}}
    plot_parity({"lab6": result, "dense": result}, tmp_path / "x.png", title="a title " * 20)
    upper = drawn[0].axes[0]
    assert upper.get_title() == "lab6"
    assert [line.get_label() for line in upper.lines][:2] == ["Keras, train", "jaxconv, train"]
    assert [line.get_ydata()[1] for line in upper.lines] == [0.25, 0.75, 0.5, 0.5]
    lower = next(axes for axes in drawn[0].axes if axes.get_yscale() == "log")
    assert [list(line.get_ydata()) for line in lower.lines] == [[1e-17, 0.5], [1e-17, 1e-17]]
    assert "\n" in drawn[0].get_suptitle()
