import base64
import io

import numpy as np
import pytest
from PIL import Image

from jaxconv.runs.plots import tile_images
from jaxconv.runs.report._pictures import _picture, _png, _sheet


def pixels_of(figure: dict) -> np.ndarray:
    source = figure["source"].removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source))))


def test_an_image_has_the_pixels_that_it_was_given():
    given = np.array([[0.0, 51.0], [np.nan, 255.0]])
    figure = _png(given, "a", 3, cmap="gray", vmin=0, vmax=255)
    drawn = pixels_of(figure)
    assert drawn[0, 0].tolist() == [0, 0, 0, 255]
    assert drawn[0, 1].tolist() == [51, 51, 51, 255]
    assert drawn[1, 1].tolist() == [255] * 4
    assert drawn[1, 0, 3] == 0  # transparent
    assert (figure["width"], figure["height"], figure["caption"]) == (6, 6, "a")


def test_grey_tiles_reach_from_the_least_to_the_greatest_value_beside_a_gap():
    drawn = pixels_of(_sheet(np.array([[[2.0, 3.0, 4.0]]]), "maps", signed=False))
    assert [drawn[0, i, 0] for i in (0, 58, 116)] == [0, 128, 255]
    assert np.flatnonzero(drawn[0, :, 3] == 0).tolist() == [56, 57, 114, 115]


def test_signed_values_are_red_white_and_blue():
    tiles = np.array([-2.0, 0.0, 2.0]).reshape(1, 3, 1)
    drawn = pixels_of(_sheet(tiles, "filters", signed=True))[0, ::18].astype(int)
    assert drawn[0, 2] > drawn[0, 0] + 50  # blue
    assert drawn[1, :3].min() > 240
    assert drawn[2, 0] > drawn[2, 2] + 50  # red
    assert pixels_of(_sheet(np.zeros((2, 2, 1)), "nothing", signed=True)).shape == (56, 56, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_colours_stay(dtype):
    given = np.random.default_rng(0).integers(0, 256, (3, 4, 3))
    given[0, 0] = 0, 255, 0
    figure = _picture((given if dtype == np.uint8 else given / 255 * 5 - 1).astype(dtype), "x", 3)
    np.testing.assert_allclose(pixels_of(figure)[..., :3], given, atol=1)
    assert (figure["width"], figure["alt"]) == (4 * 28, "test sample 3, x")


def test_values_that_are_not_finite_are_left_out():
    tiles = np.array([[[np.inf, -1.0]], [[2.0, np.nan]]])
    for signed in (False, True):
        drawn = pixels_of(_sheet(tiles, "maps", signed=signed))[::28]
        gap = 6 if signed else 2  # white is a colour of signed tiles
        assert drawn[:, (0, 28, 28 + gap), 3].tolist() == [[0, 0, 255], [255, 0, 0]]
        assert pixels_of(_sheet(tiles * np.nan, "maps", signed=signed))[..., 3].max() == 0


@pytest.mark.parametrize(("number", "columns", "gap"), [(1, 1, 1), (5, 2, 6), (6, 3, 1), (3, 8, 2)])
@pytest.mark.parametrize("size", [(2, 3), (10, 7), (40, 60)])
def test_tiles_keep_every_image_beside_a_thin_gap(number, columns, gap, size):
    images = np.random.default_rng(0).random((number, *size))
    sheet = tile_images(images, min(number, columns), gap)
    scale = {3: 18, 10: 5, 60: 1}[max(size)]  # to at most 56 cells
    height, width = (scale * n for n in size)
    assert np.nansum(sheet) == pytest.approx(images.sum() * scale**2)
    for i in range(number):
        row, column = divmod(i, min(number, columns))
        top, left = row * (height + gap), column * (width + gap)
        place = sheet[top : top + height, left : left + width]
        assert (place[::scale, ::scale] == images[i]).all()
