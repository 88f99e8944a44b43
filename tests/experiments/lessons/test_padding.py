import json

import numpy as np
import pytest
from PIL import Image

import jaxconv
from experiments.lessons import padding
from jaxconv.inspection.summary import layer_rows


@pytest.mark.parametrize(("name", "params"), [("valid", 40_394), ("same", 89_546)])
def test_the_formulas_match_the_net(name, params):
    rows = layer_rows(jaxconv.create_model("strided", padding=name), (28, 28, 1))
    shapes = padding.shapes(name)
    assert shapes["sizes"] == [28, *(row.output_shape[0] for row in rows[:3])]
    assert shapes["params"] == params == sum(row.params for row in rows)


@pytest.mark.parametrize("name", padding.PADDINGS)
def test_the_ways_from_a_pixel_are_counted(name):
    """Counts them by enumeration, from the outputs back."""
    size, ways = 28, {}

    def zeros_before(n: int) -> int:
        after = -(-n // 2)
        return 0 if name == "valid" else max((after - 1) * 2 + 3 - n, 0) // 2

    sizes = padding.shapes(name)["sizes"]
    ways = dict.fromkeys(range(sizes[3]), 1)
    for size in reversed(sizes[:3]):
        before: dict[int, int] = {}
        for output, count in ways.items():
            for cell in range(3):
                place = 2 * output + cell - zeros_before(size)
                if 0 <= place < size:
                    before[place] = before.get(place, 0) + count
        ways = before
    along = np.array([ways.get(i, 0) for i in range(28)])
    assert (padding.times_used(name) == np.outer(along, along)).all()


def test_notebook_002s_figure_is_reproduced():
    figure = padding.convolved_002()
    assert figure.tolist() == [[0, 3, 8, 4], [9, 19, 25, 10], [21, 37, 43, 16], [6, 7, 8, 0]]


def test_zeros_darken_the_border():
    share = padding.border_effect()
    np.testing.assert_allclose(share[[0, 0, 3], [0, 3, 3]], [4 / 9, 6 / 9, 1], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("few_digits")
def test_the_lesson_runs_and_its_folder_is_its_own(tmp_path, capsys):
    config = padding.Config(seeds="2", output_dir=str(tmp_path / "a"))
    result = padding.main(config)
    assert json.loads((tmp_path / "a" / "result.json").read_text()) == result
    assert result["valid_sizes"] == [28, 13, 6, 2]
    assert result["same_sizes"] == [28, 14, 7, 4]
    assert (result["valid_pixels_unseen"], result["same_pixels_unseen"]) == (255, 0)
    assert result["notebook_002_first_row"] == [0, 3, 8, 4]
    assert result["pairs"] == 2
    assert json.loads((tmp_path / "a" / "config.json").read_text())["lesson"] == "padding"
    with Image.open(tmp_path / "a" / "picture.png") as picture:
        assert picture.size > (1000, 600)
    assert "valid: 28 → 13 → 6 → 2, 40,394 parameters" in capsys.readouterr().out
    with pytest.raises(FileExistsError, match=r"already holds a run .*--overwrite"):
        padding.main(config)
    assert json.loads((tmp_path / "a" / "result.json").read_text()) == result


def test_bad_seeds_are_refused_before_anything_is_drawn(tmp_path, capsys):
    with pytest.raises(ValueError, match="seeds must be two or more"):
        padding.main(padding.Config(seeds="1", output_dir=str(tmp_path / "a")))
