import json
import types

import jax
import numpy as np
import pytest
from PIL import Image

import jaxconv
from experiments import predict
from jaxconv.data import prepare_digit
from jaxconv.runs.trained import Trained

NAMES = tuple(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


@pytest.fixture
def trained(monkeypatch, mnist):
    """Stands for a trained net: it knows ten test digits, and keeps what it was asked."""
    labels = mnist.test.label
    known = np.stack([mnist.test.image[np.argmax(labels == i)] for i in range(10)]) / 255

    def predict(images):
        net.asked = images
        distance = ((images[:, None] / 255 - known) ** 2).sum(axis=(2, 3, 4))
        raised = np.exp(-distance)
        return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)

    net = types.SimpleNamespace(
        input_shape=(28, 28, 1), dataset="mnist", class_names=None, num_classes=10, predict=predict
    )
    monkeypatch.setattr(jaxconv, "load_run", lambda _: net)
    return net


@pytest.fixture
def files(tmp_path, mnist):
    """The first digits of the test set, 7 and 2, as drawing programs and cameras keep them."""
    seven, two = (np.kron(mnist.test.image[i, ..., 0], np.ones((6, 6), np.uint8)) for i in (0, 1))
    Image.fromarray(255 - seven).save(tmp_path / "seven.png")
    Image.fromarray(np.dstack([two * 0, two * 0, two * 0, two])).save(tmp_path / "two.png")
    return [str(tmp_path / "seven.png"), str(tmp_path / "two.png")]


def test_the_table_names_the_two_likeliest_classes(trained, files, mnist, capsys):
    predict.main("run", files)
    printed = capsys.readouterr()
    heading, seven, two = printed.out.splitlines()
    assert heading.split() == ["file", "class", "probability", "second", "choice", "probability"]
    assert (seven.split()[1], two.split()[1]) == ("7", "2")
    np.testing.assert_array_equal(trained.asked, mnist.test.image[:2])
    order = np.argsort(-trained.predict(trained.asked)[0])
    likely = trained.predict(trained.asked)[0][order[:2]]
    assert seven.split()[2:] == [f"{likely[0]:.4f}", str(order[1]), f"{likely[1]:.4f}"]
    assert printed.err == "Each picture is prepared like MNIST's digits: 28 x 28 x 1.\n"


def test_json_has_a_line_a_picture_with_the_names_of_classes(trained, files, capsys):
    trained.class_names = NAMES
    predict.main("run", files, as_json=True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["file"], row["class"]) for row in rows] == [(files[0], "seven"), (files[1], "two")]
    assert all(row["probability"] > row["second_probability"] >= 0 for row in rows)
    assert rows[0]["second"] in NAMES


def test_pictures_that_fail_have_a_line_and_the_others_are_answered(
    trained, files, tmp_path, capsys
):
    (tmp_path / "note.png").write_text("no picture")
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    bad = [str(tmp_path / name) for name in ("none.png", "note.png", "blank.png")]
    with pytest.raises(SystemExit) as stopped:
        predict.main("run", [bad[0], files[0], *bad[1:], files[1]])
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert [line.split()[1] for line in printed.out.splitlines()] == ["class", "7", "2"]
    lines = printed.err.splitlines()[1:]
    assert [line.count(file) for file, line in zip(bad, lines, strict=True)] == [1] * 3
    assert "blank" in lines[2]


def test_show_writes_what_the_net_was_given(trained, files, mnist, capsys):
    predict.main("run", files, show=True)
    printed = capsys.readouterr().err.splitlines()[1:]
    assert printed == [f"Seen: {file}.seen.png" for file in files]
    for i, file in enumerate(files):
        seen = np.asarray(Image.open(file + ".seen.png"))
        large = np.kron(mnist.test.image[i, ..., 0], np.ones((10, 10), np.uint8))
        np.testing.assert_array_equal(seen, large)


@pytest.mark.parametrize(("shape", "dataset"), [((9, 8, 3), "x"), ((28, 28, 1), "folder:pets")])
def test_every_other_net_gets_the_whole_picture(trained, tmp_path, capsys, shape, dataset):
    """Nothing is cropped or inverted: white on the left remains there."""
    trained.input_shape, trained.dataset = shape, dataset
    asked = []
    trained.predict = lambda images: asked.append(images) or np.eye(10)[:1]
    half = np.zeros((30, 40), np.uint8)
    half[:, :20] = 255
    Image.fromarray(half).save(tmp_path / "half.png")
    predict.main("run", [str(tmp_path / "half.png")], show=True)
    (image,) = asked[0]
    assert image.shape == shape
    assert (image[:, : shape[1] // 2 - 1] == 255).all()
    assert (image[:, shape[1] // 2 + 1 :] == 0).all()
    assert "Each picture is resized" in capsys.readouterr().err


def test_colours_and_alpha_come_to_prepare_digit(trained, tmp_path, mnist):
    """Red on transparent is a digit as black on white is."""
    two = np.kron(mnist.test.image[1, ..., 0], np.ones((3, 3), np.uint8))
    red = np.dstack([np.full_like(two, 200), two * 0, two * 0, two])
    Image.fromarray(red).save(tmp_path / "red.png")
    predict.main("run", [str(tmp_path / "red.png")])
    np.testing.assert_array_equal(trained.asked[0], prepare_digit(red))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_kept_net_is_asked(files, mnist, tmp_path, capsys, dtype):
    """Against the softmax of its logits; a net that learned from floats does not guess a scale."""
    model = jaxconv.create_model("dense")
    state = jaxconv.classifier(model, jaxconv.rmsprop()).init(jax.random.key(0), (28, 28, 1))
    kept = str(tmp_path / "kept.safetensors")
    Trained(model, (state,), (28, 28, 1), input_dtype=dtype).save(kept)
    if dtype == "float32":
        with pytest.raises(ValueError, match="trained on float32 images as they are"):
            predict.main(kept, files)
        return
    predict.main(kept, files, as_json=True)
    pixels = jax.numpy.asarray(mnist.test.image[:2] / np.float32(255))
    logits = model.apply({"params": state.params}, pixels)
    likely = np.asarray(jax.nn.softmax(logits))
    for line, own in zip(capsys.readouterr().out.splitlines(), likely, strict=True):
        assert json.loads(line)["class"] == str(own.argmax())
        assert json.loads(line)["probability"] == pytest.approx(own.max(), abs=1e-6)
