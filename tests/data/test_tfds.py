import json
import re
import subprocess
import sys

import numpy as np
import pytest

import jaxconv
from jaxconv.data import tfds
from tests.support import EXPERIMENTS
from tests.support.made_sets import build

PREPARE = EXPERIMENTS / "prepare_tfds.py"

# TFDS and its imports emit warnings that this project cannot fix.
pytestmark = pytest.mark.filterwarnings("ignore")


def pictures(count: int, shape: tuple[int, ...], classes: int, seed: int) -> tuple:
    from PIL import Image

    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (count, *shape), np.uint8)
    label = rng.integers(0, classes, count)
    pil = [Image.fromarray(x[..., 0] if shape[-1] == 1 else x) for x in image]
    rows = [{"image": x, "label": int(y)} for x, y in zip(pil, label, strict=True)]
    return image, label, rows


@pytest.mark.parametrize(("shape", "classes"), [((32, 32, 3), 7), ((28, 20, 1), 2)])
def test_colour_and_grey_sets_are_read_with_their_own_shapes_and_classes(tmp_path, shape, classes):
    import tensorflow_datasets

    parts = {"train": pictures(12, shape, classes, 0), "test": pictures(5, shape, classes, 1)}
    features = {
        "image": tensorflow_datasets.features.Image(shape=shape),
        "label": tensorflow_datasets.features.ClassLabel(num_classes=classes),
    }
    build(tmp_path, "made", {split: part[2] for split, part in parts.items()}, features)
    data = jaxconv.load_dataset("tfds:made", data_dir=str(tmp_path))
    assert (data.name, data.num_classes, data.input_shape) == ("tfds:made", classes, shape)
    for split, (image, label, _) in parts.items():
        np.testing.assert_array_equal(getattr(data, split).image, image)
        np.testing.assert_array_equal(getattr(data, split).label, label)


def test_sets_that_do_not_fit_are_refused_with_the_reason(tmp_path):
    import tensorflow_datasets

    any_size = tensorflow_datasets.features.Image(shape=(None, None, 3))
    label = tensorflow_datasets.features.ClassLabel(num_classes=2)
    both = {"image": any_size, "label": label}
    small, large = pictures(1, (4, 4, 3), 2, 0)[2], pictures(1, (5, 4, 3), 2, 0)[2]
    build(tmp_path, "sizes", {"train": small + large, "test": small}, both)
    build(tmp_path, "untested", {"train": small, "validation": small}, both)
    unlabelled = [{"image": row["image"]} for row in small]
    build(tmp_path, "unlabelled", {"train": unlabelled}, {"image": any_size})
    for name, message in (
        ("sizes", r"train images .* have 2 sizes, e.g. \[\(4, 4, 3\), \(5, 4, 3\)\]"),
        ("untested", r"no train and test split, but \['train', 'validation'\]"),
        ("unlabelled", r"has no 'label': its features are \['image'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            tfds.load(name, data_dir=str(tmp_path))


def test_a_set_that_is_not_prepared_names_the_command(tmp_path):
    for name in ("cifar10", tfds.MNIST_BUILDER):
        command = f"tfds.prepare({name!r}, data_dir={str(tmp_path)!r})"
        with pytest.raises(FileNotFoundError, match=re.escape(command)):
            jaxconv.load_dataset(f"tfds:{name}", data_dir=str(tmp_path))


def test_an_unknown_set_gets_the_nearest_name(tmp_path):
    with pytest.raises(ValueError, match=r"prepare the set 'mnist:9\.9\.9': .* only: 3\.0"):
        tfds.prepare("mnist:9.9.9", data_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r"Unknown TFDS set 'cifer10' \(did you mean 'cifar10'"):
        jaxconv.load_dataset("tfds:cifer10", data_dir=str(tmp_path))


def test_without_tensorflow_datasets_the_message_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"datasets\. .*pip install 'jaxconv\[tfds\]'"):
        jaxconv.load_dataset("tfds:mnist")


def test_a_download_that_cannot_work_ends_with_a_message(tmp_path, monkeypatch):
    import tensorflow_datasets

    closed = [f"http://127.0.0.1:9/{i}.gz" for i in range(2)]
    builder = tensorflow_datasets.builder("mnist", data_dir=str(tmp_path))
    monkeypatch.setattr(
        type(builder), "_split_generators", lambda _, manager: manager.download(closed)
    )
    with pytest.raises(ConnectionError, match=r"'mnist' cannot be downloaded .*127\.0\.0\.1.*copy"):
        tfds.prepare("mnist", data_dir=str(tmp_path))


ROUND_TRIP = """
import json, sys
import numpy as np
import jaxconv
ours = jaxconv.load_dataset("mnist")
back = jaxconv.load_dataset("tfds:jaxconv_mnist", data_dir=sys.argv[1])
print(json.dumps({
    "equal": all(
        np.array_equal(getattr(getattr(ours, split), field), getattr(getattr(back, split), field))
        for split in ("train", "test") for field in ("image", "label")
    ),
    "classes": back.num_classes,
    "tensorflow": "tensorflow" in sys.modules,
}))
"""


@pytest.mark.slow
def test_the_bundled_set_goes_through_tfds_and_comes_back_bit_for_bit(tmp_path):
    command = [sys.executable, str(PREPARE), "--data-dir", str(tmp_path)]
    prepared = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"--dataset tfds:jaxconv_mnist --data-dir {tmp_path}" in prepared.stdout
    command = [sys.executable, "-c", ROUND_TRIP, str(tmp_path)]
    back = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(back.stdout) == {"equal": True, "classes": 10, "tensorflow": False}
