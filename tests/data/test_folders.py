"""Folders of pictures, in which each class has its own folder."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxconv.data import load_dataset


def draw(path: Path, value: int = 0, size: tuple[int, int] = (6, 4), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def fill(folder: Path, classes: Iterable[str], count: int = 2) -> None:
    """Draws pictures, each of its own grey."""
    for label, name in enumerate(classes):
        for i in range(count):
            draw(folder / name / f"{i}.png", 100 * label + i)


def load(folder: Path, **options):
    return load_dataset(f"folder:{folder}", **options)


def test_a_folder_with_train_and_test_is_read(tmp_path, capsys):
    fill(tmp_path / "Train", ["dog", "cat"], 3)
    fill(tmp_path / "test", ["dog", "cat"], 2)
    data = load(tmp_path)
    assert (data.class_names, data.input_shape) == (("cat", "dog"), (4, 6, 1))
    # The grey tells the class, that was drawn in another order, and the picture.
    assert sorted(zip(data.train.label, data.train.image[:, 0, 0, 0], strict=True)) == [
        *[(0, 100 + i) for i in range(3)],
        *[(1, i) for i in range(3)],
    ]
    assert sorted(data.test.image[:, 3, 5, 0]) == [0, 1, 100, 101]
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore")  # of grain and Keras
def test_the_classes_are_those_of_keras(tmp_path):
    import keras

    names = ["b", "a", "C", "10", "9", "é", "a b"]
    fill(tmp_path, names)
    keras_own = keras.utils.image_dataset_from_directory(
        str(tmp_path), format="grain", shuffle=False, verbose=False
    )
    data = load(tmp_path, test_split=0.5)
    assert data.class_names == tuple(keras_own.class_names) == tuple(sorted(names))


def test_a_test_split_keeps_the_shares_and_is_the_same_each_time(tmp_path):
    for name, count in (("cat", 20), ("dog", 10), ("owl", 2)):
        for i in range(count):
            draw(tmp_path / name / f"{i}.png", i)
    data = load(tmp_path, test_split=0.2)
    assert np.bincount(data.train.label).tolist() == [16, 8, 1]
    assert np.bincount(data.test.label).tolist() == [4, 2, 1]
    assert load(tmp_path, test_split=0.2).train.identity == data.train.identity
    assert (np.diff(data.train.label[:16]) != 0).any()  # a validation split has all classes


def test_pictures_are_resized_and_grey_only_if_all_are(tmp_path):
    fill(tmp_path, ["cat", "dog"])
    grey = load(tmp_path, image_size=(8, 5), test_split=0.5)
    assert grey.input_shape == (8, 5, 1)
    draw(tmp_path / "cat" / "x.JPG", size=(9, 9), mode="RGB")
    assert load(tmp_path, image_size=5, test_split=0.5).input_shape == (5, 5, 3)
    message = (
        rf"The pictures differ in size: {tmp_path}/\S+ is \d x \d, {tmp_path}/\S+ is \d x \d\. "
        r"Resize all, such as with image_size=64 \(--image-size 64\)"
    )
    with pytest.raises(ValueError, match=message):
        load(tmp_path, test_split=0.5)


def test_hidden_files_are_skipped_and_a_line_names_what_else_is_left_out(tmp_path, capsys):
    for part in ("train", "test"):
        fill(tmp_path / part, ["cat", "dog"])
    for hidden in (".DS_Store", "train/.x.png", "train/cat/.x.png", "train/.cat/x.png"):
        path = tmp_path / hidden
        path.parent.mkdir(exist_ok=True)
        path.write_text("text")
    assert len(load(tmp_path).train) == 4
    assert capsys.readouterr().out == ""
    fill(tmp_path / "val", ["cat", "dog"])
    for other in ("test/dog/notes.txt", "train/labels.csv"):
        (tmp_path / other).write_text("text")
    draw(tmp_path / "train" / "cat" / "more" / "x.png")
    draw(tmp_path / "train" / "x.png")
    assert len(load(tmp_path).train) == 4
    assert capsys.readouterr().out == (
        f"folder:{tmp_path}: left out as no picture of a class (5): "
        "'val', 'train/cat/more', 'train/labels.csv', ...\n"
    )


def remove(path: str):
    def damage(folder: Path) -> None:
        for file in (folder / path).iterdir():
            file.unlink()
        (folder / path).rmdir()

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("test/dog"), "{}: only train has the class 'dog', and test lacks it"),
        (remove("train/ape"), "{}: only test has the class 'ape', and train lacks it"),
        (lambda x: draw(x / "train/new\nline/x.png"), r"the class 'new\\nline': rename its folder"),
        (
            lambda x: (x / "test/owl").mkdir(),
            r"{}/test/owl has no pictures \(.png, .jpg, ",
        ),
        (lambda x: (x / "test").rename(x / "val"), "{}/train has no pictures .*DIR/test/CLASS"),
        (
            lambda x: (x / "test/cat/0.png").write_text("x"),
            "^{}/test/cat/0.png cannot be read",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(damage, message, tmp_path):
    for part in ("train", "test"):
        fill(tmp_path / part, ["ape", "cat", "dog"])
    damage(tmp_path)
    with pytest.raises(ValueError, match=message.format(tmp_path)):
        load(tmp_path)


@pytest.mark.parametrize(
    ("classes", "count", "options", "message"),
    [
        ([], 1, {}, "{} has no folders: make a folder for each class"),
        (["cat"], 2, {"test_split": 0.5}, "{} has one class alone, 'cat': make a folder for each"),
        (["cat", "dog"], 2, {}, "{} has no folders train and test, but cat, dog: .*test_split=0.2"),
        (["cat", "dog"], 1, {"test_split": 0.5}, "{}/cat has one picture: a class needs one to tr"),
        (["test/cat", "train/cat"], 1, {"test_split": 0.5}, "{} has a test folder: leave test_spl"),
    ],
)
def test_a_folder_of_classes_needs_two_of_them_and_a_test_split(
    classes, count, options, message, tmp_path
):
    fill(tmp_path, classes, count)
    with pytest.raises(ValueError, match=message.format(tmp_path)):
        load(tmp_path, **options)
    with pytest.raises(FileNotFoundError, match=re.escape(f"There is no folder {tmp_path}/lost")):
        load(tmp_path / "lost")
