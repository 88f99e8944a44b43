"""TFDS sets from elsewhere: damaged, hostile, or of a form that is not read."""

import contextlib
import io
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxconv
from jaxconv.data import tfds
from jaxconv.data.stream import open_streamed
from jaxconv.data.tfds import Source
from tests.support.made_sets import build, prepare

# TFDS and its imports emit warnings that this project cannot fix.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, digits) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    prepare(folder, "digits", train=digits.train[:40], test=digits.test[:10])
    return folder


@pytest.fixture
def sets(prepared, tmp_path) -> Path:
    """A copy of the prepared set, for a test to damage."""
    return Path(shutil.copytree(prepared, tmp_path / "sets"))


def load(sets: Path) -> jaxconv.Dataset:
    return jaxconv.load_dataset("tfds:digits", data_dir=str(sets))


def stream(sets: Path) -> jaxconv.data.StreamedDataset:
    return open_streamed("tfds:digits", data_dir=str(sets))


def change(path: Path, **fields) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def name_canary(path: Path, where: str, canary: str) -> None:
    """Puts the name of a class in one place of a `features.json`."""
    content = json.loads(path.read_text())
    features = content["featuresDict"]["features"]
    old = {"type": canary, "content": {}}
    if where == "the set":
        content["pythonClassName"] = canary
    elif where == "type":
        content = old
    elif where == "nested type":
        content |= {"type": content["pythonClassName"], "content": {"image": old}}
    else:
        features[where] = {"jsonFeature": {"json": "{}"}} | features.get(where, {})
        features[where]["pythonClassName"] = canary
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("read", [load, stream])
@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("the set", r"features\.json: the set is of the class 'canary\.Feature', which is not kn"),
        ("image", r"features\.json: its image is of the class 'canary\.Feature'"),
        ("label", r"features\.json: its label is of the class 'canary\.Feature'"),
        ("type", r"features\.json: TFDS did not write it so: KeyError"),
        ("other", None),
        ("nested type", None),
    ],
)
def test_no_module_that_features_json_names_is_imported(where, message, read, sets, canary):
    name_canary(sets / "digits" / "1.0.0" / "features.json", where, canary)
    if message is None:  # it names a class for what is not read
        assert read(sets).num_classes == 10
    else:
        with pytest.raises(ValueError, match=message):
            read(sets)


def test_a_set_that_is_there_is_not_read_to_prepare_it(sets, canary):
    import tensorflow_datasets

    version = str(tensorflow_datasets.builder_cls("mnist").VERSION)
    folder = (sets / "digits" / "1.0.0").rename(sets / "digits" / version)
    (sets / "digits").rename(sets / "mnist")
    folder = sets / "mnist" / version
    change(folder / "dataset_info.json", name="mnist", version=version)
    name_canary(folder / "features.json", "the set", canary)
    assert tfds.prepare(f"mnist:{version}", data_dir=str(sets)) == folder
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match=r"TFDS cannot prepare the set 'mnist': Failed to load"):
        tfds.prepare("mnist", data_dir=str(sets))


@pytest.mark.parametrize("name", ["../digits", "a/../b", "huggingface:mnist", "mnist/a=1", "a/b/c"])
def test_a_name_is_no_path_and_no_order(name, sets):
    for call in (jaxconv.load_dataset, open_streamed):
        with pytest.raises(ValueError, match=r"named NAME\[/CONFIG\]\[:VERSION\], not"):
            call(f"tfds:{name}", data_dir=str(sets))
    with pytest.raises(ValueError, match=r"named NAME"):
        tfds.prepare(name, data_dir=str(sets))


def test_the_newest_version_of_the_default_config_is_read(sets):
    folder = sets / "digits"
    shutil.copytree(folder / "1.0.0", folder / "large" / "9.0.0")
    (folder / "1.0.0").rename(folder / "large" / "10.0.0")
    (folder / "large" / "not.a.version").mkdir()
    (folder / ".config").mkdir()
    default = folder / ".config" / "metadata.json"
    default.write_text('{"default_config_name": "large"}')
    for name, version in (("digits", "10.0.0"), ("digits/large:9.0.0", "9.0.0")):
        for path in (folder / "large").glob("*/dataset_info.json"):
            change(path, configName="large", version=path.parent.name)
        source = Source(name, "test", str(sets))
        assert source.identity.startswith(f"digits/large/{version} test [10] ")
    with pytest.raises(FileNotFoundError, match=r"no version 8\.0\.0 .* 10\.0\.0, 9\.0\.0"):
        Source("digits:8.0.0", "test", str(sets))
    default.write_text('{"default_config_name": "../.."}')
    with pytest.raises(ValueError, match=r"metadata\.json: A TFDS set is named"):
        load(sets)


MANY = str(1 << 62)


@pytest.mark.parametrize("read", [load, stream])
@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("features.json", None, "features.json: there is no such file"),
        ("dataset_info.json", None, "dataset_info.json: there is no such file"),
        ("features.json", "", "features.json: TFDS did not write it so: JSONDecodeError"),
        ("features.json", "[]", "features.json: TFDS did not write it so: TypeError"),
        ("features.json", "{}", r"features.json: TFDS did not write it so: KeyError"),
        ("dataset_info.json", "[" * 100_000, "dataset_info.json: TFDS did not write it so: Rec"),
        ("dataset_info.json", "[1]", "dataset_info.json: TFDS did not write it so: TypeError"),
        ("dataset_info.json", "\udcff", "dataset_info.json: TFDS did not write it so: Unicode"),
        ("dataset_info.json", {"name": "../../digits"}, r"its name is '../../digits/1.0.0'"),
        ("dataset_info.json", {"name": None}, r"its name is '1.0.0'"),
        ("dataset_info.json", {"splits": "none"}, "TFDS did not write it so: AttributeError"),
        ("dataset_info.json", {"splits": []}, r"has no train and test split, but \[\]"),
        ("dataset_info.json", {"fileFormat": "parquet"}, "not prepared as array_record"),
        ("dataset_info.json", ("filepathTemplate", "/{SPLIT}"), "its files are named '/{SPLIT}'"),
        ("dataset_info.json", ("shardLengths", [7]), "has 40 samples, where .* says 7"),
        ("dataset_info.json", ("shardLengths", [MANY]), f"has 40 samples, where .* says {MANY}"),
        ("dataset_info.json", ("shardLengths", [20, 20]), "no file .*00000-of-00002: the set is d"),
        ("dataset_info.json", ("shardLengths", []), "the train split has no samples"),
        ("dataset_info.json", ("shardLengths", ["x"]), "invalid literal for int"),
        ("digits-train.array_record-00000-of-00001", None, "no file .*digits-train"),
        ("digits-train.array_record-00000-of-00001", "", "the train split cannot be read: "),
        ("digits-train.array_record-00000-of-00001", "x" * 70_000, "train split cannot be read: "),
    ],
)
def test_a_damaged_set_gives_one_line_that_names_the_file(file, content, message, read, sets):
    path = sets / "digits" / "1.0.0" / file
    if content is None:
        path.unlink()
    elif isinstance(content, str):
        path.write_text(content, errors="surrogateescape")
    elif isinstance(content, dict):
        change(path, **content)
    else:
        splits = json.loads(path.read_text())["splits"]
        change(path, splits=[split | dict([content]) for split in splits])
    with pytest.raises(ValueError, match=message) as error:
        read(sets)
    assert "\n" not in str(error.value)
    assert str(sets) in str(error.value)


def test_a_json_file_made_to_fill_the_memory_is_not_read(sets):
    path = sets / "digits" / "1.0.0" / "features.json"
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"features\.json: it has 1099511627776 bytes"):
        load(sets)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"features\.json: there is no such file"):
        load(sets)


def test_a_number_of_classes_made_to_fill_the_memory_is_refused(sets):
    path = sets / "digits" / "1.0.0" / "features.json"
    path.write_text(path.read_text().replace('"numClasses": "10"', f'"numClasses": "{MANY}"'))
    with pytest.raises(ValueError, match=f"features.json: it has {MANY} classes, more than"):
        stream(sets)


def test_damaged_records_are_an_error_or_harmless(sets):
    path = sets / "digits" / "1.0.0" / "digits-train.array_record-00000-of-00001"
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    expected = load(sets).train.image
    for place in rng.integers(0, len(whole), 6):
        damaged = bytearray(whole)
        damaged[place] ^= 255
        for content in (damaged, whole[:place]):
            path.write_bytes(content)
            found = expected  # a byte may only pad
            with contextlib.suppress(ValueError):
                found = load(sets).train.image
            np.testing.assert_array_equal(found, expected)


def kinds(shape: tuple, classes: int) -> dict:
    from tensorflow_datasets import features

    return {
        "image": features.Image(shape=shape),
        "label": features.ClassLabel(num_classes=classes),
    }


def encoded(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def png(width: int, height: int) -> bytes:
    """A PNG that declares its size, and holds nothing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(b""), b"IEND")
    framed = (struct.pack(">I", len(x) - 4) + x + struct.pack(">I", zlib.crc32(x)) for x in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n%%EOF\n"
NAMES = ("cat", "dog")
GREY = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) * 16)
BAD_IMAGES = [
    (EPS, "its image is neither PNG nor JPEG"),
    (encoded(GREY, "GIF"), "its image is neither PNG nor JPEG"),
    (encoded(GREY, "TIFF"), "its image is neither PNG nor JPEG"),
    (b"garbage", "its image is neither PNG nor JPEG"),
    (b"", "its image is neither PNG nor JPEG"),
    (encoded(GREY, "PNG")[:50], ""),
    (encoded(GREY, "JPEG")[:-30], ""),
    (encoded(GREY.resize((5, 4)), "PNG"), "its image is 4 x 5, not 4 x 4"),
    (encoded(GREY.convert("I;16"), "PNG"), "more than 8 bits per channel"),
    (png(4, 4), ""),
]


def test_images_other_than_png_and_jpeg_start_no_program_and_give_one_line(tmp_path, monkeypatch):
    ghost = tmp_path / "bin" / "gs"
    ghost.parent.mkdir()
    ghost.write_text(f"#!/bin/sh\ntouch {tmp_path}/sung\n")
    ghost.chmod(0o755)
    monkeypatch.setenv("PATH", str(ghost.parent), prepend=":")
    rows = [{"image": content, "label": 0} for content, _ in BAD_IMAGES]
    build(tmp_path, "bad", {"train": rows, "test": rows}, kinds((4, 4, 1), 1))
    source = Source("bad", "train", str(tmp_path))
    for row, (_, message) in enumerate(BAD_IMAGES):
        message = f"bad/1.0.0: sample {row} of the train split cannot be read: .*{message}"
        with pytest.raises(ValueError, match=message) as error:
            source.read([row])
        assert "\n" not in str(error.value)
    assert not (tmp_path / "sung").exists()


def test_an_image_made_to_fill_the_memory_is_not_unpacked(tmp_path):
    rows = [{"image": png(*size), "label": 0} for size in ((1 << 14, 1 << 14), (1 << 13, 1 << 13))]
    build(tmp_path, "huge", {"train": rows, "test": rows}, kinds((None, None, 1), 1))
    source = Source("huge", "train", str(tmp_path))
    for row, message in enumerate(("decompression bomb", "8192 x 8192, more than 16777216 pixels")):
        with pytest.raises(ValueError, match=message):
            source.read([row])


def test_images_get_the_channels_of_their_feature(tmp_path):
    palette = Image.fromarray(np.eye(4, dtype=np.uint8), "P")
    palette.putpalette([0, 0, 0, 10, 20, 30])
    pictures = [(GREY, "PNG"), (GREY, "JPEG"), (palette, "PNG"), (GREY.convert("RGBA"), "PNG")]
    rows = [{"image": encoded(*picture), "label": 0} for picture in pictures]
    build(tmp_path, "mixed", {"train": rows, "test": rows}, kinds((None, None, 3), 1))
    found = Source("mixed", "test", str(tmp_path)).read(range(4))["image"]
    grey = np.repeat(np.asarray(GREY)[..., None], 3, axis=-1)
    np.testing.assert_array_equal(found[[0, 3]], [grey, grey])
    assert np.abs(found[1].astype(int) - grey).max() < 8  # JPEG
    np.testing.assert_array_equal(found[2], np.eye(4, dtype=int)[..., None] * [10, 20, 30])


def test_class_names_are_read(tmp_path):
    from tensorflow_datasets import features

    rows = [{"image": GREY, "label": name} for name in ("dog", "cat")]
    named = {"image": features.Image(shape=(4, 4, 1)), "label": features.ClassLabel(names=NAMES)}
    build(tmp_path, "digits", {"train": rows, "test": rows}, named)
    assert load(tmp_path).train.label.tolist() == [1, 0]
    for read in (load, stream):
        assert read(tmp_path).class_names == NAMES


@pytest.mark.parametrize("read", [load, stream])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (b"cat\n" * 9, "it has 9 names for 10 classes"),
        (b"", "it has 0 names for 10 classes"),
        (b"cat\n" * 9 + b"\xff\n", "TFDS did not write it so: UnicodeDecodeError"),
        (b"cat\n" * 9 + b"x" * 101, "it has a name of 101 characters: 'xxxxxxxxxxxxxxxxxxxx'"),
    ],
)
def test_damaged_class_names_are_refused(names, message, read, sets):
    (sets / "digits" / "1.0.0" / "label.labels.txt").write_bytes(names)
    with pytest.raises(ValueError, match=rf"label\.labels\.txt: {message}"):
        read(sets)


def test_tensors_and_scalars_are_read_too(tmp_path):
    from tensorflow_datasets import features

    image = np.random.default_rng(0).normal(size=(3, 4, 5, 2)).astype(np.float32)
    rows = [{"image": x, "label": i, "note": "text"} for i, x in enumerate(image)]
    tensor = features.Tensor(shape=(4, 5, 2), dtype=np.float32)
    both = {"image": tensor, "label": features.Scalar(np.int32), "note": features.Text()}
    build(tmp_path, "floats", {"train": rows, "test": rows}, both)
    data = jaxconv.load_dataset("tfds:floats", data_dir=str(tmp_path))
    np.testing.assert_array_equal(data.train.image, image)
    assert (data.num_classes, data.train.label.tolist()) == (3, [0, 1, 2])


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        ({"shape": (4, 5, 2), "encoding": "zlib"}, np.int32, "its image has the settings .*'zlib'"),
        ({"shape": (40,)}, np.int32, r"its image has the settings .*'dimensions': \['40'\]"),
        ({"shape": (4, 5, 2)}, np.float32, "sample 0 .* its label is not one integer"),
        ({"shape": (4, 5, 2)}, np.int64, "sample 0 .* its label is not one integer below 1048576"),
        ({"shape": (4, 5, 2)}, str, "its label is of the class 'tensorflow_datasets.*Text'"),
    ],
)
def test_other_features_are_refused(image, label, message, tmp_path):
    from tensorflow_datasets import features

    both = {
        "image": features.Tensor(dtype=np.float32, **image),
        "label": features.Text() if label is str else features.Scalar(label),
    }
    rows = [{"image": np.ones(image["shape"], np.float32), "label": label(1 << 30)}]
    build(tmp_path, "made", {"train": rows, "test": rows}, both)
    with pytest.raises(ValueError, match=message):
        jaxconv.load_dataset("tfds:made", data_dir=str(tmp_path))


def test_a_stream_names_the_damaged_sample(tmp_path):
    rows = [{"image": encoded(GREY, "PNG"), "label": i % 2} for i in range(6)]
    damaged = [*rows[:4], {"image": EPS, "label": 0}, rows[5]]
    build(tmp_path, "bad", {"train": damaged, "test": rows}, kinds((4, 4, 1), 2))
    train = open_streamed("tfds:bad", data_dir=str(tmp_path)).train
    batches = train.batches(np.array([0, 1, 4, 2, 3, 5]), 2, 0)
    assert next(batches)["label"].tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"bad/1\.0\.0: sample 4 of the train split cannot"):
        next(batches)
