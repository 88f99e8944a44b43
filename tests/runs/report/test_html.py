import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from jaxconv.runs.plots import tile_images
from jaxconv.runs.report._html import document, drawing, image, section, table


def pixels_of(figure: str) -> np.ndarray:
    source = re.search(r'src="data:image/png;base64,([^"]+)"', figure)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source[1]))))


def test_an_image_has_the_pixels_that_it_was_given():
    given = np.array([[0.0, 51.0], [np.nan, 255.0]])
    figure = image(given, "a < b", caption="c & d", scale=3)
    drawn = pixels_of(figure)
    assert drawn[0, 0].tolist() == [0, 0, 0, 255]
    assert drawn[0, 1].tolist() == [51, 51, 51, 255]
    assert drawn[1, 1].tolist() == [255] * 4
    assert drawn[1, 0, 3] == 0  # transparent
    assert 'width="6" height="6"' in figure
    assert 'alt="a &lt; b"' in figure
    assert "<figcaption>c &amp; d</figcaption>" in figure


def test_signed_values_are_red_white_and_blue():
    drawn = pixels_of(image(np.array([[-2.0, 0.0, 2.0]]), "filters", signed=True))[0].astype(int)
    assert drawn[0, 2] > drawn[0, 0] + 50  # blue
    assert drawn[1, :3].min() > 240
    assert drawn[2, 0] > drawn[2, 2] + 50  # red
    assert pixels_of(image(np.zeros((2, 2)), "nothing", signed=True)).shape == (2, 2, 4)


def test_colours_stay():
    given = np.random.default_rng(0).random((3, 4, 3))
    np.testing.assert_allclose(pixels_of(image(given, "x"))[..., :3], given * 255, atol=1)


@pytest.mark.parametrize(("number", "columns"), [(1, 1), (5, 2), (6, 3), (3, 8)])
def test_tiles_keep_every_image(number, columns):
    images = np.random.default_rng(0).random((number, 2, 3))
    sheet = tile_images(images, min(number, columns))
    assert np.nansum(sheet) == pytest.approx(images.sum())
    for i in range(number):
        row, column = divmod(i, min(number, columns))
        place = sheet[row * 3 : row * 3 + 2, column * 4 : column * 4 + 3]
        assert (place == images[i]).all()


def test_numbers_stand_to_the_right_and_nothing_is_markup():
    page = table([["<b>", "0.9737 ± 0.0017", 3], ["x", "12.3 s", 4]], ["name", "value", "n"])
    assert page.count('class="number"') == 6
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert table([]) == '<div class="scroll"><table></table></div>'
    assert table([[True, "2e"]], caption="a<b").count("&lt;") == 1
    assert section("x") == ""


def test_a_drawing_takes_the_colours_of_the_page_and_is_the_same_each_time():
    def draw(file):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([1, 2], [3, 4], color="#0b6e99", label="train")
        axes.legend()
        figure.savefig(file, dpi=120)

    svg = drawing(draw, 'a "quoted" text')
    assert svg == drawing(draw, 'a "quoted" text')
    assert svg.startswith('<svg role="img" aria-label="a &quot;quoted&quot; text"')
    assert "var(--train)" in svg
    assert "currentColor" in svg
    assert "#0b6e99" not in svg
    assert ">train</text>" in svg


def test_a_document_may_load_nothing():
    page = document("a", "<p>b</p>")
    assert "default-src 'none'" in page
    assert "<p>b</p>" in page
