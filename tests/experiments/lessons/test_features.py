import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxconv
from experiments.lessons import features
from jaxconv.inspection.summary import layer_rows


@pytest.fixture(scope="module")
def net(digits):
    model, tx = jaxconv.create_model("lab6"), jaxconv.rmsprop()
    state = jaxconv.create_train_state(model, tx, jax.random.key(0), digits.input_shape)
    return state, features.strongest_responses(model, state, digits.test.image, batch_size=30)


def test_a_patch_alone_gives_its_filters_response(net, digits):
    state, responses = net

    def output_of(layer: str, image: np.ndarray) -> np.ndarray:
        x = jnp.asarray(image, jnp.float32)[None, :, :, None] / 255
        for name in features.WINDOWS:
            if name.startswith("conv"):
                params = state.params[name]
                x = jnp.maximum(
                    jaxconv.models.conv(x, params["kernel"], form="xla") + params["bias"], 0
                )
            else:
                x = jaxconv.models.max_pool(x, form="xla")
            if name == layer:
                break
        return np.asarray(x[0])

    for name, size in (("conv1", 3), ("conv2", 8), ("conv3", 18)):
        seen = features.field(name)
        assert seen.size == size
        for i in (0, 5):
            values, places = responses[name].values[:, i], responses[name].places[:, i]
            patches = features.exciting_patches(digits.test.image, values, places, seen, count=2)
            assert patches.shape == (2, size, size)
            best = np.sort(values)[::-1]
            for patch, value in zip(patches, best, strict=False):
                alone = output_of(name, patch)
                assert alone.shape[:2] == (1, 1)
                np.testing.assert_allclose(alone[0, 0, i], value, rtol=1e-4, atol=1e-5)


def test_the_windows_match_the_net():
    rows = {row.name: row for row in layer_rows(jaxconv.create_model("lab6"), (28, 28, 1))}
    assert list(features.WINDOWS) == list(rows)[: len(features.WINDOWS)]
    size = 28
    for name, (kernel, stride) in features.WINDOWS.items():
        size = jaxconv.inspection.output_size(size, kernel, stride)
        assert rows[name].output_shape[0] == size


def test_purity_is_the_share_of_the_commonest_class():
    label = np.repeat(np.arange(10), 50)
    responses = np.zeros((500, 3))
    responses[label == 4, 0] = 1  # 50 fours, and then the first 50 other digits, which are zeros
    responses[:, 1] = np.arange(500) + 1.0  # 50 nines and 50 eights
    found = features.selectivity("conv1", responses, label)
    assert found["conv1_purity"] == 0.5
    assert found["conv1_dead_filters"] == 1
    assert found["conv1_active_share"] == pytest.approx((50 + 500) / 1500)


def test_the_lesson_runs(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(features, "load_dataset", lambda name: digits)
    config = features.Config(output_dir=str(tmp_path / "a"), epochs=1, digit=3)
    result = features.main(config)
    assert json.loads((tmp_path / "a" / "result.json").read_text()) == result
    assert result["conv3_shape"] == [3, 3, 128]
    assert [result[f"conv{i}_receptive_field"] for i in (1, 2, 3)] == [3, 8, 18]
    with Image.open(tmp_path / "a" / "picture.png") as picture:
        assert picture.size > (1000, 800)
    assert "conv1: (26, 26, 32), 21,632 numbers" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"digit must be in \[0, 70\), not 70"):
        features.main(features.Config(digit=70))
