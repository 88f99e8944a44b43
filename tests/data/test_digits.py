"""`prepare_digit` against MNIST's own digits, and on the pictures that people have."""

import itertools

import numpy as np
import pytest

from jaxconv.data import prepare_digit
from jaxconv.data.digits import _overlaps

SOME = 300


@pytest.fixture
def seven(mnist):
    return mnist.test.image[0]


def enlarge(digit, times=8, *, top=40, left=70, height=300, width=330):
    """A digit with larger pixels, somewhere in a black picture `[H, W]`."""
    picture = np.zeros((height, width), np.uint8)
    large = np.kron(digit[..., 0], np.ones((times, times), np.uint8))
    picture[top : top + large.shape[0], left : left + large.shape[1]] = large
    return picture


def differences(mnist, picture_of):
    return np.array(
        [
            np.abs(prepare_digit(picture_of(digit)).astype(int) - digit).max()
            for digit in mnist.test.image[:SOME]
        ]
    )


def test_mnists_digits_come_back_from_anywhere_in_a_picture(mnist):
    """MNIST made them so: their longer side has 20 pixels, their centre of mass is the middle."""
    rng = np.random.default_rng(0)

    def paste(digit):
        picture = np.zeros((90, 70), np.uint8)
        top, left = rng.integers(0, 62), rng.integers(0, 42)
        picture[top : top + 28, left : left + 28] = digit[..., 0]
        return picture

    off = differences(mnist, paste)
    assert (off <= 1).mean() > 0.95  # 254 may become 255
    assert np.median(off) == 0


def test_large_digits_come_back(mnist):
    assert (differences(mnist, enlarge) <= 1).mean() > 0.95


def _inverted(picture):
    return 255 - picture


def _photo(picture):
    """Dark ink on grey, textured paper under a lamp: 190 to 230 levels, the ink at 60."""
    rng = np.random.default_rng(1)
    height, width = picture.shape
    paper = 210 + 15 * np.linspace(-1, 1, width) + rng.normal(0, 2, (height, width))
    return (paper - (paper - 60) * (picture / 255)).astype(np.uint8)


def _pen(picture):
    """Blue on white: Rec. 601 gives 29 of 255, and white minus that stretches to the full range."""
    colours = np.full((*picture.shape, 3), 255.0)
    colours[..., :2] -= picture[..., None]
    return colours.astype(np.uint8)


def _alpha(picture):
    """Black of some opacity, as a drawing program saves it; transparent black is white paper."""
    image = np.zeros((*picture.shape, 4), np.uint8)
    image[..., 3] = picture
    return image


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        (_inverted, 0),
        (_photo, 60),  # the paper is darker at one side, and its noise remains within the crop
        (_pen, 1),
        (_alpha, 0),
        (lambda picture: picture[..., None], 0),
        (lambda picture: (picture / 255).astype(np.float32), 0),
        (lambda picture: picture // 3 + 20, 4),  # three levels become one
    ],
    ids=["inverted", "photo", "pen", "alpha", "channel", "float", "faint"],
)
def test_pictures_that_people_have(seven, change, tolerance):
    prepared = prepare_digit(change(enlarge(seven)))
    assert prepared.dtype == np.uint8
    assert np.abs(prepared.astype(int) - seven).max() <= tolerance


def test_the_border_decides_though_most_of_the_picture_is_ink():
    ring = np.zeros((40, 40), np.uint8)
    ring[2:38, 2:38] = 255
    ring[15:25, 15:25] = 0
    np.testing.assert_array_equal(prepare_digit(ring), prepare_digit(255 - ring))
    assert prepare_digit(ring)[5, 14] == 255


@pytest.mark.parametrize(("height", "width"), [(60, 12), (13, 31), (7, 3), (1, 1), (20, 20)])
def test_a_bar_keeps_its_aspect_and_is_centred(height, width):
    """Closed form: the longer side is 20 pixels, the middle is pixel 14 or the line before it."""
    picture = np.zeros((height + 40, width + 90), np.uint8)
    picture[9 : 9 + height, 60 : 60 + width] = 200
    prepared = prepare_digit(picture)[..., 0]
    rows, columns = np.flatnonzero(prepared.any(axis=1)), np.flatnonzero(prepared.any(axis=0))
    longer = max(height, width)
    assert len(rows) == int(20 * height / longer + 0.5)
    assert len(columns) == int(20 * width / longer + 0.5)
    assert set(np.unique(prepared)) == {0, 255}
    assert 13.5 <= rows.mean() < 14.5
    assert 13.5 <= columns.mean() < 14.5


@pytest.mark.parametrize(("old", "new"), [*itertools.product([1, 7, 20, 33], [1, 5, 20])])
def test_the_average_is_over_the_exact_area(old, new):
    """Against pixels cut into `new` parts each: then every new pixel is a mean of whole ones."""
    values = np.random.default_rng(old).integers(0, 256, old)
    exact = np.repeat(values, new).reshape(new, old).sum(axis=1)
    np.testing.assert_array_equal(_overlaps(old, new) @ values, exact)


@pytest.mark.parametrize(
    ("black", "shadow", "sigma"),
    [(40, 0, 5), (0, 0, 5), (40, 15, 5), (40, 0, 20)],
    ids=["grey", "clipped", "shadow", "strong"],
)
def test_noise_does_not_widen_the_crop(seven, black, shadow, sigma):
    """On black, half of the noise is clipped: half of the border is exactly 0."""
    rng = np.random.default_rng(2)
    noise = rng.normal(0, sigma, (300, 330))
    noise[5:35, 20:60] += shadow
    noisy = np.clip(enlarge(seven) * 0.7 + black + noise, 0, 255)
    off = np.abs(prepare_digit(noisy.astype(np.uint8)).astype(int) - seven)
    assert off.mean() < sigma / 5  # a crop wider by a tenth: 10 and more


def test_a_light_paper_with_a_lighter_middle_remains_a_background(seven):
    """The digit is darker, though most pixels of the picture are lighter than the border."""
    paper = np.full((300, 330), 200.0)
    paper[20:-20, 20:-20] += 20
    ink = enlarge(seven) / 255
    picture = np.floor(paper + ink * (30 - paper))
    assert np.abs(prepare_digit(picture.astype(np.uint8)).astype(int) - seven).max() < 30


@pytest.mark.parametrize("alpha", [255, 128])
def test_colours_become_luma_and_alpha_lies_over_white(alpha):
    """Closed form: 0.299 red, 0.587 green; the darker half is stretched to 255."""
    picture = np.full((60, 60, 4), 255, np.uint8)
    picture[20:40, 20:30] = 255, 0, 0, alpha
    picture[20:40, 30:40] = 0, 255, 0, alpha
    over = np.floor(255 + (np.array([0.299, 0.587]) * 255 - 255) * alpha / 255 + 0.5)
    red, green = 255 - over
    assert red > green
    values = np.unique(prepare_digit(picture))
    np.testing.assert_array_equal(values, [0, np.floor(255 * green / red + 0.5), 255])


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.full((28, 28), 255, np.uint8), r"blank: .*by 25 of 255 levels, 0 at most"),
        (np.zeros((28, 28, 4), np.uint8), "blank"),
        (np.random.default_rng(0).normal(0.5, 0.05, (300, 300)), "blank: nothing but noise"),
        (np.eye(28) * 0.05, r"blank: .*, 13 at most"),
        (np.zeros((3, 28, 28), np.uint8), r"one picture, \[H, W\] or .*, not \(3, 28, 28\)"),
        (np.zeros((28, 28, 2), np.uint8), r"not \(28, 28, 2\)"),
        (np.zeros(784, np.uint8), r"not \(784,\)"),
        (np.zeros((0, 28, 3), np.uint8), r"not \(0, 28, 3\)"),
        (np.zeros((28, 28), np.int64), "is int64: pass uint8"),
        (np.zeros((28, 28), bool), "is bool: pass uint8"),
        (np.eye(28) * 255, r"go from 0 to 255: scale them to 0\.\.1"),
        (np.eye(28) - 0.5, r"go from -0.5 to 0.5"),
        (np.full((28, 28), np.nan), "NaN or infinite"),
    ],
)
def test_what_it_cannot_take_gets_a_message(picture, words):
    with pytest.raises(ValueError, match=words):
        prepare_digit(picture)


@pytest.mark.parametrize("numbers", [(0, 1), (0, 1, 2)])
def test_digits_side_by_side_are_refused(mnist, numbers):
    row = np.concatenate([np.pad(mnist.test.image[i, ..., 0], 4) for i in numbers], axis=1)
    with pytest.raises(ValueError, match=f"has {len(numbers)} digits side by side .*: cut it"):
        prepare_digit(row)


def test_a_line_of_writing_is_refused():
    line = np.zeros((40, 200), np.uint8)
    line[15:30, 20:180] = 255
    with pytest.raises(ValueError, match="something 160 pixels wide and 15 high where one digit"):
        prepare_digit(line)
