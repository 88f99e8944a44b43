import itertools

import pytest

from experiments.lessons import animate, panels, sliding


@pytest.mark.parametrize(
    "window",
    [
        *animate.EXAMPLES.values(),
        sliding.Window(12, 3),
        sliding.Window(4, 5, padding=1, channels=3, filters=4),
        sliding.Window(5, 2, padding="same", channels=3, operation="avg"),
        sliding.Window(3, 1, filters=4),
    ],
)
def test_panels_lie_on_the_frame_and_do_not_overlap(window):
    layout = panels.Panels(sliding.slide(window))
    k, padded = window.kernel, layout.slide.padded.shape[-1]
    boxes = [(x, y, padded) for x, y in layout.inputs]
    boxes += [(x, y, k) for places in layout.kernels for x, y in places]
    boxes += [(x, y, layout.slide.output.shape[-1]) for x, y in layout.outputs]
    for x, y, size in boxes:
        assert min(x, y) >= -1e-9
        assert x + size <= layout.columns + 1e-9
        assert y + size <= layout.rows + 1e-9
    for (x, y, size), (x2, y2, size2) in itertools.combinations(boxes, 2):
        beside = max(x, x2) - min(x + size, x2 + size2)
        below = max(y, y2) - min(y + size, y2 + size2)
        assert max(beside, below) > 1  # there is room for a title
    assert layout.columns * layout.cell < panels.FRAME_WIDTH
    assert layout.cell >= panels.MIN_CELL


def test_long_sums_are_wrapped():
    layout = panels.Panels(sliding.slide(sliding.Window(5, 5, channels=2)))
    lines = layout.lines(0)
    assert max(map(len, lines)) <= panels.MAX_LINE
    joined = " ".join(line.strip() for line in lines)
    assert joined == " ".join(layout.slide.steps[0].lines)
    assert len(lines) == 5
