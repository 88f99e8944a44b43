import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxconv.data.arrays import Dataset

IMAGE = np.zeros((6, 4, 5, 1), np.uint8)
LABEL = np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_image": IMAGE[..., 0]}, r"train images .* not \(6, 4, 5\): .* image\[..., None\]"),
        ({"test_image": IMAGE[0, 0]}, r"test images must be \[samples, .* not \(5, 1\)"),
        ({"test_image": IMAGE.reshape(6, 20)}, r"not \(6, 20\): give every pixel its place\."),
        (
            {"test_image": IMAGE[:, 1:].reshape(6, -1)[:, :9]},
            r"such as image.reshape\(-1, 3, 3, 1",
        ),
        ({"train_image": IMAGE[:0].reshape(0, 3, 8, 8)}, r"np.moveaxis\(image, 1, -1\)"),
        ({"train_image": IMAGE.astype(int)}, r"not int64: convert them with .*\(np.uint8\)\."),
        ({"train_image": IMAGE.astype(int) - 1}, "must be one of uint8, .* not int64\\."),
        ({"train_label": LABEL.astype(float)}, r"float64 \(6,\): pass label.astype\(int\)"),
        ({"train_label": LABEL + 0.5}, r"must be integers .* float64 \(6,\)\."),
        ({"train_label": LABEL.astype(str)}, r"not <U\d+ \(6,\): pass label.astype\(int\)"),
        ({"train_label": np.array(["cat", "dog"] * 3)}, r": number them .*return_inverse=True"),
        ({"train_label": LABEL[:, None]}, r"int64 \(6, 1\): pass label\[:, 0\]"),
        ({"train_label": np.eye(3)[LABEL]}, r"float64 \(6, 3\): for these one-hot .*argmax"),
        ({"train_label": np.eye(3)[LABEL] / 2}, r"not float64 \(6, 3\)\."),
        ({"train_label": LABEL + 1, "num_classes": 3}, "at index 2 is 3, .*: if they count from 1"),
        ({"train_label": LABEL[:4]}, "train split has 6 images and 4 labels"),
        ({"num_classes": 2}, r"train label at index 2 is 2, outside \[0, 2\)"),
        ({"class_names": "ab"}, r"train label at index 2 is 2, outside \[0, 2\)"),
        ({"class_names": "abc", "num_classes": 4}, "There are 3 class_names for 4 classes"),
        ({"test_label": -LABEL, "num_classes": 3}, r"test label at index 1 is -1, outside"),
        ({"train_image": IMAGE.astype(np.longdouble)}, "must be one of uint8, .* not float128"),
        ({"train_label": LABEL * 0 - 1, "test_label": LABEL * 0 - 1}, r"is -1, outside \[0, 1\)"),
        ({"num_classes": 2**20 + 1}, "1048577 classes are too many"),
        ({"num_classes": 0}, "num_classes must be a positive integer, not 0"),
        ({"test_image": IMAGE[:0], "test_label": LABEL[:0]}, "test split is empty"),
        ({"train_image": IMAGE[:, :0]}, r"train split is empty: its images have shape \(6, 0"),
        ({"test_image": IMAGE[:, :3]}, r"differ in shape: \(4, 5, 1\) and \(3, 5, 1\)"),
        ({"test_image": IMAGE / 255}, "differ in dtype: uint8 and float64"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_arrays_are_refused(change, message):
    arrays = {
        "train_image": IMAGE, "train_label": LABEL, "test_image": IMAGE, "test_label": LABEL,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        Dataset.from_arrays(**{**arrays, **change})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_refused_with_their_index(value):
    image = IMAGE.astype(np.float32)
    image[3, 2, 1, 0] = value
    with pytest.raises(ValueError, match=rf"hold {value} at index \(3, 2, 1, 0\)"):
        Dataset.from_arrays(image, LABEL, image, LABEL)


def test_odd_but_legal_arrays_pass():
    with pytest.warns(UserWarning, match="All 1 train labels are 0: there is nothing to learn"):
        one = Dataset.from_arrays(IMAGE[:1], LABEL[:1], IMAGE[:1], LABEL[:1])
    assert (len(one.train), one.num_classes) == (1, 1)
    unsigned = Dataset.from_arrays(IMAGE, LABEL.astype(np.uint8), IMAGE, LABEL.tolist())
    assert unsigned.train.label.dtype == np.int32
    swapped = IMAGE.astype(">f4")  # as other tools dump them
    assert Dataset.from_arrays(swapped, LABEL, swapped, LABEL).train.image.dtype == np.float32
    named = Dataset.from_arrays(IMAGE, LABEL, IMAGE, LABEL, class_names=list("abcd"))
    assert (named.num_classes, named.class_names) == (4, ("a", "b", "c", "d"))
    image = np.full((6, 4, 5, 3), -7.5, np.float64)
    assert Dataset.from_arrays(image, LABEL, image, LABEL).train.image.dtype == np.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_label": LABEL * 0 + 2}, "All 6 train labels are 2: there is nothing to learn"),
        ({"train_label": LABEL + 1, "test_label": LABEL + 1}, "No label is 0: if .* label - 1"),
        ({"test_label": LABEL + 1}, r"No train sample has the test labels \[3\]"),
        ({name: IMAGE + np.float32(33) for name in ("train_image", "test_image")}, "go up to 33:"),
    ],
)
def test_what_trains_badly_gets_a_warning_where_it_was_called(change, message, wrapped):
    arrays = {
        "train_image": IMAGE, "train_label": LABEL, "test_image": IMAGE, "test_label": LABEL,
    }  # fmt: skip
    with pytest.warns(UserWarning, match=message) as caught:
        Dataset.from_arrays(**{**arrays, **change})
    assert len(caught) == 1
    assert wrapped or caught[0].filename == __file__


@pytest.mark.usefixtures("untyped")
def test_a_slice_of_a_split_is_a_split_of_the_same_arrays(mnist):
    some = mnist.train[10:20]
    assert len(some) == 10
    assert np.shares_memory(some.image, mnist.train.image)
    assert (some.label == mnist.train.label[10:20]).all()
    with pytest.raises(TypeError, match=r"by a slice, such as \[:1000\], not by 3"):
        mnist.train[3]


def test_the_validation_split_is_the_tail_before_any_shuffle(mnist):
    split = mnist.split_validation(0.1)
    np.testing.assert_array_equal(split.train.image, mnist.train.image[:54_000])
    np.testing.assert_array_equal(split.validation.label, mnist.train.label[54_000:])
    assert split.test is mnist.test
    assert mnist.split_validation(0.0) is mnist
    with pytest.raises(ValueError, match="cut off already"):
        split.split_validation(0.1)


@given(samples=st.integers(2, 1000), fraction=st.floats(0.01, 0.99))
def test_the_cut_is_where_keras_makes_it(samples, fraction):
    cut = math.floor(samples * (1 - fraction))
    image, label = np.zeros((samples, 1, 1, 1), np.uint8), np.arange(samples) % 2
    data = Dataset.from_arrays(image, label, image, label)
    if cut == 0:
        with pytest.raises(ValueError, match="leaves 0 of"):
            data.split_validation(fraction)
    else:
        assert len(data.split_validation(fraction).train) == cut


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, math.nan])
def test_a_fraction_outside_its_range_is_refused(digits, fraction):
    with pytest.raises(ValueError, match=f"must be in \\[0, 1\\), not {fraction}"):
        digits.split_validation(fraction)
