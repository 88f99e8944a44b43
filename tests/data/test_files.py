"""Pictures, `.npz` files and LeCun's files, among them damaged and hostile ones."""

import gzip
import io
import re
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxconv.data import _guards, load_dataset, read_image
from jaxconv.data.files import NAMES, PARTS

GREY = np.arange(60, dtype=np.uint8).reshape(6, 10) * 4
IMAGE, LABEL = np.zeros((6, 4, 5, 1), np.uint8), np.array([0, 1, 2, 0, 1, 2])


def save(path: Path, pixels: np.ndarray = GREY, **options) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def savez(path: Path, **change) -> Path:
    arrays = dict(zip(NAMES, (IMAGE, LABEL, IMAGE, LABEL), strict=True))
    np.savez(path, **(arrays | change))
    return path


def idx(array: np.ndarray) -> bytes:
    """LeCun's format, by his page: magic number, sizes, bytes."""
    header = struct.pack(">I", 0x0800 + array.ndim)
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, mark: str = "-", end: str = "") -> None:
    images = np.arange(60, dtype=np.uint8).reshape(6, 2, 5)
    for (stem, axes), array in zip(PARTS, (images, LABEL, images + 1, LABEL), strict=True):
        content = gzip.compress(idx(array)) if end else idx(array)
        (folder / f"{stem}{mark}idx{axes}-ubyte{end}").write_bytes(content)


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "webp", "tiff"])
def test_pictures_of_every_kind_are_read(ending, tmp_path):
    found = read_image(save(tmp_path / f"x.{ending}"))
    assert found.shape in ((6, 10, 1), (6, 10, 3))  # WebP has no grey
    assert np.abs(found.astype(int) - GREY[..., None]).max() <= (
        40 if ending in ("jpg", "webp") else 0
    )


def test_a_picture_is_resized_as_by_pillow_and_gets_the_channels_that_are_asked_for(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8)
    path = save(tmp_path / "x.png", colour)
    np.testing.assert_array_equal(read_image(path), colour)
    small = Image.fromarray(colour).resize((5, 3), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(read_image(path, (3, 5)), small)
    assert read_image(path, (3, 5), 1).shape == (3, 5, 1)
    grey = read_image(path, channels=1)[..., 0]
    assert np.abs(grey - colour @ [0.299, 0.587, 0.114]).max() <= 1  # BT.601
    grey = read_image(save(tmp_path / "grey.png"), channels=3)
    np.testing.assert_array_equal(grey, np.repeat(GREY[..., None], 3, axis=-1))
    bits = Image.fromarray(GREY > 100)
    bits.save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png")[..., 0], (GREY > 100) * 255)
    with pytest.raises(ValueError, match="Unknown number of channels 2: use one of 1, 3, 4"):
        read_image(path, channels=2)


def test_what_is_transparent_is_white_without_an_alpha_channel(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0] = 10, 10, 10, 255
    path = save(tmp_path / "x.png", pixels)
    np.testing.assert_array_equal(read_image(path), pixels)
    for channels in (1, 3):
        expected = np.array([10, 255]).reshape(2, 1, 1) + np.zeros((2, 2, channels))
        np.testing.assert_array_equal(read_image(path, channels=channels), expected)


def test_a_photo_is_turned_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise
    path = save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(path)[..., 0], np.rot90(GREY, -1))


def png(width: int, height: int) -> bytes:
    """A PNG of another size than its header says."""
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zipfile.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its image is neither PNG nor JPEG nor GIF nor BMP nor WEBP nor TIFF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EOF\n", "neither PNG nor JPEG"),
        (png(10, 6)[:45], ""),
        (png(10_000, 8_000), "its image is 8000 x 10000, more than 67108864 pixels"),
        (png(1 << 15, 1 << 15), "decompression bomb"),
        (None, "its image has more than 8 bits per channel"),
    ],
)
def test_a_damaged_or_hostile_picture_gives_one_line_and_starts_no_program(
    content, message, tmp_path, monkeypatch
):
    path, ghost = tmp_path / "x.png", tmp_path / "gs"
    ghost.write_text(f"#!/bin/sh\ntouch {tmp_path}/sung\n")
    ghost.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    if content is None:
        save(path, GREY.astype(np.uint16))
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{path} cannot be read: .*{message}") as error:
        read_image(path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "sung").exists()


def test_a_picture_that_is_not_there_or_needs_pillow_is_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"There is no file lost\.png"):
        read_image("lost.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError, match=r"^Not installed: PIL\. .*'jaxconv\[run\]'"):
        read_image("lost.png")


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("as_keras", [True, False])
def test_mnist_in_an_npz_file_is_mnist_to_the_bit(write, as_keras, digits, tmp_path):
    arrays = [digits.train.image, digits.train.label, digits.test.image, digits.test.label]
    if as_keras:  # which has no channels
        arrays[::2] = digits.train.image[..., 0], np.asfortranarray(digits.test.image[..., 0])
    write(tmp_path / "x.npz", **dict(zip(NAMES, arrays, strict=True)), more=np.zeros(3))
    data = load_dataset(f"npz:{tmp_path}/x.npz")
    assert (data.name, data.num_classes) == (f"npz:{tmp_path}/x.npz", 10)
    assert data.train.identity == digits.train.identity
    assert data.test.identity == digits.test.identity


BAD_ARRAYS = [
    ({"x_train": IMAGE.reshape(6, 20)}, r"not \(6, 20\): give every pixel its place"),
    ({"x_test": np.zeros((6, 784), np.uint8)}, r"\(6, 784\): .* image.reshape\(-1, 28, 28, 1\)"),
    ({"x_train": np.zeros((6, 3, 8, 8), np.uint8)}, r"np.moveaxis\(image, 1, -1\)"),
    ({"x_train": IMAGE.astype(int)}, r"not int64: convert them with image.astype\(np.uint8\)"),
    ({"y_train": LABEL.astype(str)}, r"pass label.astype\(int\)"),
    ({"y_train": np.array(["cat", "dog"] * 3)}, r"number them .*return_inverse=True"),
    ({"y_train": LABEL[:, None]}, r"int64 \(6, 1\): pass label\[:, 0\]"),
    ({"y_train": np.eye(3)[LABEL]}, r"for these one-hot labels pass label.argmax\(-1\)"),
    ({"y_test": LABEL[:4]}, "test split has 6 images and 4 labels"),
    ({"x_train": IMAGE[:0], "y_train": LABEL[:0]}, "train split is empty"),
]


@pytest.mark.parametrize(("change", "message"), BAD_ARRAYS)
def test_arrays_that_do_not_fit_are_refused_with_the_file_and_the_remedy(change, message, tmp_path):
    path = savez(tmp_path / "x.npz", **change)
    end = r"\. Mend the arrays, and save them again with np\.savez\.$"
    with pytest.raises(ValueError, match=f"^{path}: The .*{message}.*{end}"):
        load_dataset(f"npz:{path}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"y_train": LABEL + 1, "y_test": LABEL + 1},
            "No label is 0: if .* pass label - 1",
        ),
        ({"y_train": LABEL * 0}, "All 6 train labels are 0: there is nothing to learn"),
        ({"y_train": LABEL % 2}, r"No train sample has the test labels \[2\]"),
        (dict.fromkeys(NAMES[::2], IMAGE + 255.0), "go up to 255: divide them by 255"),
    ],
)
def test_arrays_that_train_badly_get_a_warning(change, message, tmp_path):
    path = savez(tmp_path / "x.npz", **change)
    with pytest.warns(UserWarning, match=message):
        load_dataset(f"npz:{path}")


def test_missing_names_are_listed_with_those_that_are_there(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=IMAGE, y_train=LABEL, train_images=IMAGE)
    message = (
        r"no x_test, y_test, but 'x_train', 'y_train', 'train_images': save .* x_train=\.\.\., y"
    )
    with pytest.raises(ValueError, match=message):
        load_dataset(f"npz:{tmp_path}/x.npz")


def npy(header: str, content: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content


def described(dtype: str, shape: object, content: bytes = b"") -> bytes:
    return npy(f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n", content)


HOSTILE = [
    (described("'|u1'", (1 << 62,)), "it declares 4611686018427387904 bytes and takes .* memory"),
    (described("'|u1'", (1 << 30,)), "it declares 1073741824 bytes of values and has 0, fewer"),
    (described("'|u1'", (-1,)), "it declares -1 bytes and takes"),
    (described("'|u1'", (-1, -2), b"ab"), ""),
    (described("'|u1'", (2,), b"abc"), "it declares 2 bytes of values and has more"),
    (described("'|O'", (2,), b"ab"), "y_test holds Python objects, which could execute code"),
    (described("'|u1'", "(open('sung', 'w'),)"), ""),
    (npy("{" * 9000), ""),
    (b"text", ""),
    (b"", ""),
]


@pytest.mark.parametrize(("member", "message"), HOSTILE)
def test_a_hostile_array_gives_one_line_and_fills_no_memory(member, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = savez(tmp_path / "x.npz")
    with zipfile.ZipFile(path) as archive:
        members = {x: archive.read(x) for x in archive.namelist()} | {"y_test.npy": member}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=f"^{path} cannot be read: .*{message}") as error:
        load_dataset(f"npz:{path}")
    assert "\n" not in str(error.value)
    assert not Path("sung").exists()


@pytest.mark.parametrize("compressed", [True, False], ids=["npz", "idx"])
def test_what_unpacks_to_far_more_than_its_size_is_refused(compressed, tmp_path, monkeypatch):
    monkeypatch.setattr(_guards, "MAX_BYTES", 10_000)  # not 1 GiB
    large = np.zeros((6, 200, 200), np.uint8)
    if compressed:
        arrays = dict(zip(NAMES, (large, LABEL) * 2, strict=True))
        np.savez_compressed(tmp_path / "x.npz", **arrays)
        name = f"npz:{tmp_path}/x.npz"
    else:
        write_idx(tmp_path, end=".gz")
        path = tmp_path / "train-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(idx(large)))
        name = f"idx:{tmp_path}"
    with pytest.raises(ValueError, match=r"it declares 240000 bytes and takes \d+, as if made to"):
        load_dataset(name)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"text",
        lambda content: b"",
        lambda content: content.replace(b"\x00" * 40, b"\x00" * 39 + b"\x01"),  # its CRC is wrong
    ],
)
def test_a_damaged_npz_file_gives_one_line(damage, tmp_path):
    path = savez(tmp_path / "x.npz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"^{path} cannot be read: ") as error:
        load_dataset(f"npz:{path}")
    assert "\n" not in str(error.value)


def test_other_compressions_than_numpys_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_LZMA) as archive:
        for name in NAMES:
            archive.writestr(f"{name}.npy", b"")
    with pytest.raises(ValueError, match="x_train is not compressed as np"):
        load_dataset(f"npz:{tmp_path}/x.npz")


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_lecuns_files_are_read(mark, end, tmp_path, monkeypatch):
    write_idx(tmp_path, mark, end)
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    data = load_dataset(f"idx:~/{tmp_path.name}")
    images = np.arange(60, dtype=np.uint8).reshape(6, 2, 5, 1)
    np.testing.assert_array_equal(data.train.image, images)
    np.testing.assert_array_equal(data.test.image, images + 1)
    assert data.train.label.tolist() == data.test.label.tolist() == LABEL.tolist()


TRAIN = "train-images-idx3-ubyte"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(LABEL), "it begins with 00000801, not with 00000803 as LeCun's"),
        (b"", "it begins with , not with 00000803"),
        (idx(IMAGE[..., 0])[:9], "unpack requires a buffer of 12 bytes"),
        (idx(IMAGE[..., 0])[:-1], "it declares 120 bytes of values and has 119, fewer"),
        (idx(IMAGE[..., 0]) + b"x", "it declares 120 bytes of values and has more"),
        (struct.pack(">4I", 0x803, *[2**32 - 1] * 3), "as if made to fill the memory"),
    ],
)
@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_damaged_file_of_lecuns_gives_one_line(content, message, end, tmp_path):
    write_idx(tmp_path, end=end)
    path = tmp_path / f"{TRAIN}{end}"
    path.write_bytes(gzip.compress(content) if end else content)
    with pytest.raises(ValueError, match=f"^{path} cannot be read: .*{message}"):
        load_dataset(f"idx:{tmp_path}")


def test_a_gz_file_that_is_none_or_cut_gives_one_line(tmp_path):
    write_idx(tmp_path, end=".gz")
    path = tmp_path / f"{TRAIN}.gz"
    for content in (b"text", path.read_bytes()[:30]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{path} cannot be read: "):
            load_dataset(f"idx:{tmp_path}")


def test_a_missing_file_of_lecuns_is_named_with_those_that_are_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder lost"):
        load_dataset("idx:lost")
    with pytest.raises(FileNotFoundError, match=r"/train-images-idx3-ubyte\[.gz\], but nothing"):
        load_dataset(f"idx:{tmp_path}")
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    message = r"no file .*/t10k-labels-idx1-ubyte\[.gz\], but 't10k-images-idx3-ubyte', 'train-im"
    with pytest.raises(FileNotFoundError, match=message):
        load_dataset(f"idx:{tmp_path}")
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(LABEL[:4]))
    with pytest.raises(ValueError, match=f"^{tmp_path}: The test split has 6 images and 4 labels"):
        load_dataset(f"idx:{tmp_path}")


@pytest.mark.parametrize("name", ["npz:lost.npz", "npz:/dev/zero"])
def test_an_npz_file_that_is_none_is_named(name):
    with pytest.raises(FileNotFoundError, match=f"There is no file {re.escape(name[4:])}"):
        load_dataset(name)
