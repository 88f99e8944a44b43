import base64
import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

import jaxconv
from jaxconv.data import prepare_digit
from jaxconv.models import ACTIVATIONS, activate
from jaxconv.runs.draw import write_draw_page
from jaxconv.runs.trained import Trained
from jaxconv.training import TrainState
from tests.support import ROOT

NETS = {
    "lab6": jaxconv.create_model("lab6"),
    "strided": jaxconv.create_model("strided", padding="same"),
    "dropout": jaxconv.create_model(
        "dropout", pool="avg", pool_size=3, pool_strides=2, pool_padding="same", hidden=(16,)
    ),
    "dense": jaxconv.create_model("dense", num_classes=3),
    "normed": jaxconv.ConvNet(
        filters=(4, 6), num_pools=1, activation="elu", batch_norm=True, global_pool=True
    ),
    "odd": jaxconv.ConvNet(
        filters=(5, 7),
        num_pools=2,
        kernel_size=(3, 4),
        strides=(1, 2),
        padding=((1, 2), (0, 3)),
        activation=ACTIVATIONS["gelu"],  # a function that has a name
        pool_size=(3, 2),
        pool_strides=(2, 1),
        pool_padding=(1, 0),
    ),
}


def trained(model: nn.Module, seeds: int = 1) -> Trained:
    """Random weights, whose probabilities differ by image."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    states = []
    for seed in range(seeds):
        draw = np.random.default_rng(seed).normal

        def array(path, x, draw=draw):
            if len(x.shape) > 1:
                return jnp.float32(draw(0, 2 / np.prod(x.shape[:-1]) ** 0.5, x.shape))
            middle = float(path[-1].key in ("scale", "var"))
            return jnp.float32(middle + draw(0, 0.2, x.shape))

        own = {"batch_stats": {}} | jax.tree_util.tree_map_with_path(array, shapes)
        states.append(TrainState(jnp.int32(0), opt_state=(), rng=jax.random.key(seed), **own))
    return Trained(model, tuple(states), (28, 28, 1), seeds=tuple(range(seeds)), dataset="mnist")


DENSE = trained(NETS["dense"])
NAN = DENSE.state._replace(params=jax.tree.map(lambda x: x * jnp.nan, DENSE.state.params))


def net_of(page: Path) -> dict:
    return json.loads(re.search("const NET = (.*);\n", page.read_text())[1])


def test_the_page_needs_nothing_from_elsewhere_and_escapes_names(tmp_path):
    names = ("</script><b>", "{{ 7 * 7 }}", "'\"&")
    given = dataclasses.replace(
        DENSE, class_names=names, dataset="folder:<pets>", experiment="mine", test_accuracy=(0.5,)
    )
    path = write_draw_page(given, tmp_path / "draw.html")
    page = path.read_text()
    assert "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'" in page
    assert not re.search(r"(src|href|url)\s*[=(]|https?:|import", page)
    assert page.count("</script>") == 1
    assert "<b>{{ 7 * 7 }}</b>" in page
    text = "mine answers: 403,459 parameters, trained on folder:&lt;pets&gt;, test accuracy 50.00%."
    assert text in page
    net = net_of(path)
    assert net["classes"] == list(names)
    weights = np.frombuffer(base64.b64decode(net["members"][0]), "<f4")
    kernel = given.state.params["dense1"]["kernel"]
    np.testing.assert_array_equal(weights[: kernel.size], kernel.ravel())


def test_it_leaves_out_seeds_that_diverged(tmp_path):
    given = dataclasses.replace(
        DENSE, states=(NAN, DENSE.state, DENSE.state), seeds=(3, 4, 5), test_accuracy=(None, 0.5, 1)
    )
    path = write_draw_page(given, tmp_path / "draw.html")
    assert net_of(path)["members"] == 2 * net_of(write_draw_page(DENSE, path))["members"]


def test_it_says_when_its_numbers_are_finer_than_the_nets(tmp_path, capsys):
    for dtype, said in ((jnp.bfloat16, 1), (jnp.float32, 0)):
        given = dataclasses.replace(DENSE, model=NETS["dense"].clone(dtype=dtype))
        write_draw_page(given, tmp_path / "draw.html")
        assert capsys.readouterr().out.count("computes in bfloat16 and the page in float32") == said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": nn.Dense(3)}, "computes a jaxconv.ConvNet, not Dense: ask this net with"),
        ({"input_shape": (32, 32, 3)}, r"uint8 \(28, 28, 1\), and .* takes uint8 \(32, 32, 3\)"),
        ({"input_dtype": "float32"}, r"and this net takes float32 \(28, 28, 1\): ask it"),
        ({"model": NETS["lab6"].clone(activation=jnp.sin)}, "no activation .*sin.*: take one"),
        ({"states": (NAN,)}, "not finite, since its training diverged"),
    ],
)
def test_nets_that_it_cannot_compute_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write_draw_page(dataclasses.replace(DENSE, **changes), tmp_path / "draw.html")
    assert not any(tmp_path.iterdir())


def drawings(count: int) -> list:
    """Strokes as of a hand: one to three curves of six to twelve points, some of them apart.

    The last one fills so much of the border that it counts as noise.
    """
    rng, all_strokes = np.random.default_rng(0), []
    for _ in range(count - 1):
        strokes = []
        for _ in range(rng.integers(1, 4)):
            steps = rng.normal(0, 0.08, (rng.integers(6, 13), 2)).cumsum(axis=0)
            walk = rng.uniform(0.2, 0.8, 2) + steps.cumsum(axis=0) / 2
            strokes.append(np.clip(walk, 0.01, 0.99).round(3).tolist())
        all_strokes.append(strokes)
    return [*all_strokes, [[[0, 0], [1, 0], [1, 0.6]], [[0.5, 0.3], [0.5, 0.7]]]]


def photos(digits: np.ndarray) -> list[np.ndarray]:
    """Digits in blue ink with a haze, on paper in uneven light, or the negative; with alpha."""
    rng, pictures = np.random.default_rng(0), []
    for i, digit in enumerate(digits[..., 0]):
        ink = np.pad(digit.repeat(2, axis=0).repeat(2, axis=1), 3) / 255
        haze = sum(np.roll(ink, shift, axis) for shift in (-2, 2) for axis in (0, 1)) / 70
        ink = np.maximum(ink, haze)[..., None]
        light = np.linspace(0.8, 1, ink.shape[0])[:, None, None]
        paper = light * 230 + rng.normal(0, (0, 1, 4)[i % 3], ink.shape)
        colour = ink * [30, 40, 120] + (1 - ink) * paper
        colour = np.abs([0, 255][i % 2] - colour).clip(0, 255)
        alpha = np.full(ink.shape, 255 - 20 * (i % 4))
        pictures.append(np.concatenate([colour, alpha], axis=-1).astype(np.uint8))
    return pictures


@pytest.mark.slow
def test_a_real_browser_computes_what_python_computes(tmp_path, mnist):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium: apt-get install chromium")
    nets = {name: trained(model, 1 + (name == "lab6")) for name, model in NETS.items()}
    pages = [str(write_draw_page(net, tmp_path / f"{name}.html")) for name, net in nets.items()]
    images = mnist.test.image[:200]
    pictures = photos(mnist.test.image[:24])
    numbers = np.float32(np.linspace(-6, 6, 64))
    asked = {
        "pages": pages,
        "images": images.reshape(200, 784).tolist(),
        "drawings": drawings(50),
        "pictures": [
            {"data": x.ravel().tolist(), "height": x.shape[0], "width": x.shape[1]}
            for x in pictures
        ],
        "by_mouse": [[[0.2, 0.2], [0.2, 0.8]], [[0.8, 0.2], [0.8, 0.8]]],
        "numbers": numbers.tolist(),
    }
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    script = ROOT / "tests" / "runs" / "draw" / "browser_check.py"
    command = [sys.executable, str(script), chromium, str(tmp_path / "asked.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)

    assert seen["console"] == []
    assert len(seen["requests"]) == len(pages)
    for net, answers in zip(nets.values(), seen["probabilities"], strict=True):
        expected = net.predict(images)
        assert expected.std(axis=0).max() > 0.1  # the digits differ
        np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-4)

    assert seen["activations"].keys() == ACTIVATIONS.keys()
    for name, values in seen["activations"].items():
        expected = activate(name, jnp.asarray(numbers).reshape(-1, 4)).ravel()
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=2e-6, err_msg=name)

    assert len(seen["drawings"]) == 50
    refused = 0
    for drawn in seen["drawings"]:
        picture = pixels(drawn["picture"])
        assert picture.shape == (280, 280, 4)
        digit = prepared(picture)
        if isinstance(digit, str):
            assert digit.startswith(drawn["answer"].partition(":")[0])
            refused += 1
            continue
        np.testing.assert_array_equal(pixels(drawn["seen"])[..., :1], digit)
        (expected,) = nets["lab6"].predict(digit[None])
        assert drawn["answer"] == str(expected.argmax())
        shares = [float(share.removesuffix("%")) for share in drawn["shares"]]
        np.testing.assert_allclose(shares, 100 * expected, rtol=0, atol=0.06)
    assert refused < 10
    for picture, answer in zip(pictures, seen["prepared"], strict=True):
        assert answer == prepare_digit(picture).ravel().tolist()
    assert seen["by_mouse"]["answer"] == "The picture has 2 digits side by side: draw one."
    assert seen["cleared"]["answer"] == "Draw a digit."
    assert seen["cleared"]["shares"] == [""] * 10
    assert seen["width"] == 400
    assert (seen["tapped"], seen["pressed"]) == (1, 0)


def pixels(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))


def prepared(picture: np.ndarray) -> np.ndarray | str:
    """The digit, or the message of the error."""
    try:
        return prepare_digit(picture)
    except ValueError as error:
        return str(error)
