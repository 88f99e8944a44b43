import importlib.resources

import numpy as np
import pytest

from jaxconv.data import load_dataset
from jaxconv.data.mnist import bundled_mnist


def test_bundled_mnist_is_the_well_known_one(mnist):
    assert (mnist.name, mnist.num_classes, mnist.input_shape) == ("mnist", 10, (28, 28, 1))
    for split, samples in ((mnist.train, 60_000), (mnist.test, 10_000)):
        assert split.image.shape == (samples, 28, 28, 1)
        assert split.image.dtype == np.uint8
        assert split.label.shape == (samples,)
        assert split.label.dtype == np.int32
    # Well-known figures: samples per class, mean and deviation of the pixels.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.train.label).tolist() == counts
    assert np.bincount(mnist.test.label).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert mnist.train.image.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert mnist.train.image.std() / 255 == pytest.approx(0.3081, abs=5e-5)
    assert mnist.train.label[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test.label[:5].tolist() == [7, 2, 1, 0, 4]


def test_callers_share_arrays_that_none_can_write_to(mnist):
    assert load_dataset("mnist") is load_dataset("mnist")
    for split in (mnist.train, mnist.test[:3]):
        for array in (split.image, split.label):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0


def test_a_damaged_file_is_refused(monkeypatch, tmp_path):
    whole = importlib.resources.files("jaxconv").joinpath("_data/mnist.npz")
    content = bytearray(whole.read_bytes())
    content[5_000_000] ^= 1
    (tmp_path / "_data").mkdir()
    (tmp_path / "_data" / "mnist.npz").write_bytes(content)
    monkeypatch.setattr(importlib.resources, "files", lambda _: tmp_path)
    bundled_mnist.cache_clear()
    with pytest.raises(ValueError, match=r"mnist\.npz is damaged: its SHA-256 is .* Reinstall"):
        load_dataset("mnist")
