import numpy as np
from matplotlib.figure import Figure

from experiments.lessons.grids import draw_grid, draw_tiles


def test_a_grid_shows_its_numbers():
    axes = Figure().subplots()
    draw_grid(
        axes, np.array([[0.0, 3.5], [8, -4]]), marked={(0, 1)}, padding={(1, 0)}, hidden=[(1, 1)]
    )
    assert [text.get_text() for text in axes.texts] == ["0", "3.5", "8"]
    colors = [patch.get_facecolor() for patch in axes.patches]
    assert len({*colors}) == 3


def test_tiles_of_zeros_are_drawn():
    axes = Figure().subplots()
    draw_tiles(axes, np.zeros((2, 3, 3)), columns=2, title="nothing", signed=True)
    assert axes.get_title() == "nothing"
