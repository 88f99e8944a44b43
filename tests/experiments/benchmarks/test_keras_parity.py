from experiments.benchmarks.keras_parity import plot_parity


def test_parity_shows_both_sides_and_their_distance(drawn, tmp_path):
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
