import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxconv import data as data_module
from jaxconv.data import load_dataset
from jaxconv.data.arrays import Dataset
from jaxconv.training.keys import epoch_permutation

IMAGE = np.zeros((6, 4, 5, 1), np.uint8)
LABEL = np.array([0, 1, 2, 0, 1, 2])


def test_bundled_mnist_is_the_well_known_one(mnist):
    assert (mnist.name, mnist.num_classes, mnist.input_shape) == ("mnist", 10, (28, 28, 1))
    for split, samples in ((mnist.train, 60_000), (mnist.test, 10_000)):
        assert split.image.shape == (samples, 28, 28, 1)
        assert split.image.dtype == np.uint8
        assert split.label.shape == (samples,)
        assert split.label.dtype == np.int32
    # Figures that the literature gives: samples a class, mean and deviation of the pixels.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.train.label).tolist() == counts
    assert np.bincount(mnist.test.label).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert mnist.train.image.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert mnist.train.image.std() / 255 == pytest.approx(0.3081, abs=5e-5)
    assert mnist.train.label[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test.label[:5].tolist() == [7, 2, 1, 0, 4]


def test_a_damaged_file_is_refused(monkeypatch, tmp_path):
    whole = data_module.importlib.resources.files("jaxconv").joinpath("_data/mnist.npz")
    content = bytearray(whole.read_bytes())
    content[5_000_000] ^= 1
    (tmp_path / "_data").mkdir()
    (tmp_path / "_data" / "mnist.npz").write_bytes(content)
    monkeypatch.setattr(data_module.importlib.resources, "files", lambda _: tmp_path)
    with pytest.raises(ValueError, match=r"mnist\.npz is damaged: its SHA-256 is .* Reinstall"):
        load_dataset("mnist")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_image": IMAGE[..., 0]}, r"train images .* not \(6, 4, 5\): .* image\[..., None\]"),
        ({"test_image": IMAGE[0, 0]}, r"test images must be \[samples, .* not \(5, 1\)"),
        ({"train_image": IMAGE.astype(int)}, "must be one of uint8, .* not int64"),
        ({"train_label": LABEL.astype(float)}, r"labels must be integers .* float64 \(6,\)"),
        ({"train_label": np.eye(3)[LABEL]}, r"float64 \(6, 3\): for one-hot .*argmax"),
        ({"train_label": LABEL[:4]}, "train split has 6 images and 4 labels"),
        ({"num_classes": 2}, r"train label at index 2 is 2, outside \[0, 2\)"),
        ({"test_label": -LABEL, "num_classes": 3}, r"test label at index 1 is -1, outside"),
        ({"train_image": IMAGE.astype(np.longdouble)}, "must be one of uint8, .* not float128"),
        ({"train_label": LABEL * 0 - 1, "test_label": LABEL * 0 - 1}, r"is -1, outside \[0, 1\)"),
        ({"num_classes": 2**31}, "2147483648 classes are too many"),
        ({"num_classes": 0}, "num_classes must be a positive integer, not 0"),
        ({"test_image": IMAGE[:0], "test_label": LABEL[:0]}, "test split is empty"),
        ({"train_image": IMAGE[:, :0]}, r"train split is empty: its images have shape \(6, 0"),
        ({"test_image": IMAGE[:, :3]}, r"differ in shape: \(4, 5, 1\) and \(3, 5, 1\)"),
        ({"test_image": IMAGE / 255}, "differ in dtype: uint8 and float64"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_arrays_are_refused_at_the_door(change, message):
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


def test_what_looks_odd_but_is_legal_passes():
    one = Dataset.from_arrays(IMAGE[:1], LABEL[:1], IMAGE[:1], LABEL[:1])
    assert (len(one.train), one.num_classes) == (1, 1)
    unsigned = Dataset.from_arrays(IMAGE, LABEL.astype(np.uint8), IMAGE, LABEL.tolist())
    assert unsigned.train.label.dtype == np.int32
    swapped = IMAGE.astype(">f4")  # as other tools dump them
    assert Dataset.from_arrays(swapped, LABEL, swapped, LABEL).train.image.dtype == np.float32
    image = np.full((6, 4, 5, 3), -7.5, np.float64)
    assert Dataset.from_arrays(image, LABEL, image, LABEL).train.image.dtype == np.float64


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
    image, label = np.zeros((samples, 1, 1, 1), np.uint8), np.zeros(samples, int)
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


def test_unknown_names_are_refused():
    with pytest.raises(
        ValueError,
        match=r"Unknown data set 'minst' \(did you mean 'mnist'\?\): use one of mnist, tfds:NAME",
    ):
        load_dataset("minst")
    with pytest.raises(ValueError, match="data_dir='/somewhere' is for"):
        load_dataset("mnist", data_dir="/somewhere")


def test_an_epoch_is_a_full_permutation_of_its_own():
    key = jax.random.key(3)
    orders = [np.asarray(epoch_permutation(key, epoch, 1000)) for epoch in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert not np.array_equal(orders[0], orders[1])
    np.testing.assert_array_equal(orders[2], epoch_permutation(jax.random.key(3), 2, 1000))
    assert not np.array_equal(orders[0], epoch_permutation(jax.random.key(4), 0, 1000))
    expected = jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, 0), 2), 1000)
    np.testing.assert_array_equal(orders[2], expected)  # the keys that the README documents


@pytest.mark.usefixtures("x64")
def test_orders_are_int32_in_64_bits_too():
    assert epoch_permutation(jax.random.key(0), 0, 5).dtype == np.int32
