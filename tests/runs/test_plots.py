import pytest

from jaxconv.runs.plots import plot_history, plot_parity, plot_peers, plot_steps

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


@pytest.fixture
def drawn(monkeypatch):
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    return figures


def row(net: str, kind: str, peer: str, samples: list) -> dict:
    return {"net": net, "kind": kind, "peer": peer, "samples": samples}


def test_every_peer_that_ran_has_a_bar(drawn, tmp_path):
    rows = [
        row("lab6", "warm", "PyTorch", [3.0, 1.0, 2.0]),
        row("lab6", "warm", "stock Flax", [None, None]),
        row("lab6", "warm", "jaxconv", [None, 0.5]),
        row("intro", "warm", "jaxconv", [4.0]),
        row("lab6", "job", "jaxconv, first run", [200.0]),
    ]
    plot_peers(rows, tmp_path / "x.png", title="a title")
    (figure,) = drawn
    assert figure.get_suptitle() == "a title"
    lab6, intro, job, _ = figure.axes
    assert [axes.get_title() for axes in (lab6, intro)] == ["lab6", "intro"]
    assert [bar.get_width() for bar in lab6.patches] == [2.0, 0.5]
    assert [bar.get_width() for bar in intro.patches] == [4.0]
    assert [text.get_text().strip() for text in job.texts] == ["200"]
    labels = [label.get_text() for label in lab6.get_yticklabels()]
    assert labels == ["PyTorch", "stock Flax", "jaxconv"]
    whisker = lab6.collections[0].get_segments()[0]
    assert sorted(x for x, _ in whisker) == [1.0, 3.0]


def step_row(case: str, batch_size: int, values: list, cached: list) -> dict:
    figures = {"ms a step": values, "seconds to the first step, cached": cached}
    series = case.replace(f", batch {batch_size}", "")
    return {"case": case, "series": series, "batch_size": batch_size, "figures": figures}


def test_steps_of_one_batch_size_are_bars(drawn, tmp_path):
    rows = [
        step_row("a, batch 32", 32, [3.0, 1.0, 2.0], [None]),
        step_row("b, batch 32", 32, [1.0], [0.5]),
    ]
    plot_steps(rows, tmp_path / "x.png", title="t")
    steps, cached = drawn[0].axes
    assert [bar.get_width() for bar in steps.patches] == [2.0, 1.0]
    assert [bar.get_width() for bar in cached.patches] == [0.5]
    assert [label.get_text() for label in steps.get_yticklabels()] == ["a, batch 32", "b, batch 32"]


def test_steps_of_several_batch_sizes_are_lines(drawn, tmp_path):
    rows = [
        step_row(f"{net}, batch {size}", size, [size * 1.0, size * 3.0, size * 2.0], [None])
        for net in ("a", "b")
        for size in (64, 1)
    ]
    rows[0]["figures"]["seconds to the first step, cached"] = [0.5]
    plot_steps(rows, tmp_path / "x.png", title="t")
    steps, cached = drawn[0].axes
    assert [line.get_xydata().tolist() for line in steps.lines] == [[[1, 2], [64, 128]]] * 2
    assert [line.get_label() for line in steps.lines] == ["a", "b"]
    assert steps.get_yscale() == "log"
    assert [line.get_xydata().tolist() for line in cached.lines] == [[[64, 0.5]], []]
    assert cached.get_yscale() == "linear"
    assert [int(tick) for tick in steps.get_xticks()] == [1, 64]
