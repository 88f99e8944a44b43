import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.lessons import activations, gradients

SIGMOID = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
FUNCTIONS = {"sigmoid": SIGMOID, "tanh": np.tanh, "relu": lambda z: np.maximum(z, 0)}
DERIVATIVES = {
    "sigmoid": lambda z: SIGMOID(z) * (1 - SIGMOID(z)),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "relu": lambda z: (z > 0).astype(float),
}


def test_curves_are_those_of_the_closed_forms():
    curves = gradients.activation_curves()
    for name, function in FUNCTIONS.items():
        x, (values, slopes) = curves[name]
        np.testing.assert_allclose(values, function(x), atol=1e-6)
        np.testing.assert_allclose(slopes, DERIVATIVES[name](x), atol=1e-6)
    x, (values, slopes) = curves["softmax"]
    share = np.exp(x) / (np.exp(x) + 2)
    np.testing.assert_allclose(values, share, atol=1e-6)
    np.testing.assert_allclose(slopes, share * (1 - share), atol=1e-6)
    for name, largest in gradients.STEEPEST.items():
        assert curves[name][1][1].max() == largest


def net(seed: int, depth: int, scale: float) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    sizes = [6, *random.integers(2, 6, depth), 3]
    pairs = itertools.pairwise(sizes)
    kernels = [(scale * random.normal(size=pair)).astype(np.float32) for pair in pairs]
    x = random.normal(size=(4, 6)).astype(np.float32)
    return kernels, x, random.integers(0, 3, 4).astype(np.int32)


def by_hand(kernels: list[np.ndarray], activation: str, x: np.ndarray, label: np.ndarray) -> list:
    """Backpropagation written out, in float64."""
    h, sums = x.astype(float), []
    for kernel in kernels[:-1]:
        sums.append(h @ kernel.astype(float))
        h = FUNCTIONS[activation](sums[-1])
    logits = h @ kernels[-1].astype(float)
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    g = (share - np.eye(3)[label]) / len(x) @ kernels[-1].T
    norms = [np.linalg.norm(g)]
    for kernel, z in zip(kernels[-2:0:-1], sums[:0:-1], strict=True):
        g = (g * DERIVATIVES[activation](z)) @ kernel.T
        norms.insert(0, np.linalg.norm(g))
    return norms


@given(st.integers(0, 10_000), st.integers(2, 4), st.floats(0.2, 2), st.sampled_from([*FUNCTIONS]))
def test_gradients_are_those_by_hand_and_within_the_bound(seed, depth, scale, activation):
    kernels, x, label = net(seed, depth, scale)
    norms = gradients.gradient_norms(kernels, activation, x, label)
    wanted = by_hand(kernels, activation, x, label)
    np.testing.assert_allclose(norms, wanted, rtol=1e-3, atol=1e-6)
    bound = gradients.gradient_bound(kernels, activation, norms[-1])
    assert (norms <= bound * (1 + 1e-5)).all()


def test_the_bound_is_reached_where_every_derivative_is_the_largest():
    # Two hidden layers of one unit, and inputs of zero: tanh' = 1 there, and sigmoid'(0) = 0.25
    # in the first layer alone; in the second it is that of 3 · sigmoid(0).
    kernels = [np.ones((1, 1)), np.full((1, 1), 3.0), np.array([[1.0, 3.0]])]
    x, label = np.zeros((1, 1)), np.zeros(1, np.int32)
    norms = gradients.gradient_norms(kernels, "tanh", x, label)
    bound = gradients.gradient_bound(kernels, "tanh", norms[-1])
    assert norms.min() > 0
    np.testing.assert_allclose(norms, bound, rtol=1e-6)
    norms = gradients.gradient_norms(kernels, "sigmoid", x, label)
    bound = gradients.gradient_bound(kernels, "sigmoid", norms[-1])
    slope = DERIVATIVES["sigmoid"](1.5)
    np.testing.assert_allclose(norms / bound, [slope / 0.25, 1], rtol=1e-5)


def test_the_bound_has_the_largest_singular_values():
    kernels, _, _ = net(0, 3, 1.0)
    second, third = (np.linalg.svd(kernel)[1][0] for kernel in kernels[1:3])
    bound = gradients.gradient_bound(kernels, "sigmoid", 8.0)
    np.testing.assert_allclose(bound, [0.5 * second * third, 2 * third, 8], rtol=1e-5)
    assert gradients.factor(np.array([2.0, 77.0, 32.0])) == pytest.approx(0.25)


def test_kernels_are_keras_initial_ones():
    kernels = gradients.deep_kernels(0, 3, 100, 784, 10, gradients.GLOROT, 3.0)
    assert [kernel.shape for kernel in kernels] == [(784, 100), (100, 100), (100, 100), (100, 10)]
    for kernel, scale in zip(kernels, (3, 3, 3, 1), strict=True):
        limit = scale * np.sqrt(6 / sum(kernel.shape))
        assert 0.97 * limit < np.abs(kernel).max() <= limit * (1 + 1e-6)
    assert not np.array_equal(kernels[1], kernels[2])


def convolved(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(image, kernel.shape[:2], axis=(0, 1))
    return np.einsum("ijcpq,pqcf->ijf", windows[::stride, ::stride], kernel) + bias


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 3))
def test_collapsed_layers_are_those_one_after_another(seed, count, stride):
    random = np.random.default_rng(seed)
    channels = random.integers(1, 4, count + 1)
    layers = [
        (random.normal(size=(*random.integers(1, 4, 2), before, after)), random.normal(size=after))
        for before, after in itertools.pairwise(channels)
    ]
    kernel, bias, step = gradients.collapse(layers, stride)
    assert step == stride**count
    size = [n + 2 * step + int(random.integers(stride)) for n in kernel.shape[:2]]
    image = wanted = random.normal(size=(*size, channels[0]))
    for layer in layers:
        wanted = convolved(wanted, *layer, stride)
    got = convolved(image, kernel, bias, step)
    assert got.shape == wanted.shape == (3, 3, channels[-1])
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


def test_what_cannot_be_collapsed_is_refused():
    one, two = (np.ones((3, 3, 1, 2)), np.zeros(2)), (np.ones((3, 3, 3, 1)), np.zeros(1))
    with pytest.raises(ValueError, match="takes 3 channels, but the layers before it give 2"):
        gradients.collapse([one, two], 2)
    with pytest.raises(ValueError, match="There is no layer to collapse"):
        gradients.collapse([], 2)


def test_dead_units_are_those_that_no_digit_activates(digits, monkeypatch):
    train_epoch = activations.train_epoch

    def trained(*arguments):
        state = train_epoch(*arguments)
        bias = np.full(512, 1e3, np.float32)  # active, whatever the digit
        bias[[3, 100, 511]] = -1e3
        dense1 = {**state.params["dense1"], "bias": bias}
        # This one is active for one digit alone, that with the most ink.
        ink = digits.test.image.sum(axis=(1, 2, 3)) / 255
        dense1["kernel"] = np.asarray(dense1["kernel"]).copy()
        dense1["kernel"][:, 7] = 1
        bias[7] = -np.sort(ink)[-2:].mean()
        return state._replace(params={**state.params, "dense1": dense1})

    monkeypatch.setattr(activations, "train_epoch", trained)
    assert activations.dead_units(1e-3, 0, digits)["dead_share"] == 3 / 512


@pytest.mark.slow
@pytest.mark.usefixtures("few_digits")
def test_the_lesson(tmp_path, monkeypatch, digits, capsys):
    monkeypatch.setattr(activations, "load_dataset", lambda name: digits)
    folder = tmp_path / "lesson"
    config = activations.Config(seeds="3,7", output_dir=str(folder))
    result = activations.main(config)
    assert json.loads((folder / "result.json").read_text()) == result
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert not any(isinstance(x, dict) for x in result.values())
    assert result["sigmoid_largest_derivative"] == 0.25
    assert result["sigmoid_largest_derivative_at"] == 0

    # Of 20 layers of 100 glorot-uniform units: what variances say, and what 002 says of them.
    assert len(result["sigmoid_norms"]) == len(result["sigmoid_bound"]) == 20
    assert result["sigmoid_factor"] < 0.25 < result["sigmoid_bound_factor"] < 0.5
    assert 0 < result["sigmoid_largest_share_of_bound"] <= 1
    assert (np.array(result["sigmoid_norms"]) <= result["sigmoid_bound"]).all()
    relu = [result[f"relu_{name}_factor"] for name in ("glorot", "he", "large")]
    np.testing.assert_allclose(relu, [0.5**0.5, 1, 3 * 0.5**0.5], rtol=0.05)

    assert (result["collapsed_kernel_shape"], result["collapsed_stride"]) == ([15, 15, 1, 64], 8)
    assert (result["params_before"], result["params_collapsed"]) == (23_296, 14_464)
    assert result["largest_difference"] < 1e-4 < result["largest_output"]
    assert 0 <= result["usual_dead_share"] <= result["large_dead_share"] <= 1
    second = json.loads((folder / "comparison" / "second" / "config.json").read_text())
    assert (second["experiment"], second["activation"]) == ("strided", "relu")
    assert (result["seeds"], result["pairs"]) == ([3, 7], 2)
    said = capsys.readouterr().out
    assert "23,296 parameters, are one of 14,464" in said
    with pytest.raises(FileExistsError, match="already holds"):
        activations.main(config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 1}, "depth must be 2 to 50, what float32 has room for, not 1"),
        ({"depth": 51}, "not 51"),
        ({"width": 0}, "width must be a positive integer"),
    ],
)
def test_bad_settings_are_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        activations.main(activations.Config(output_dir=str(tmp_path / "lesson"), **settings))
    assert list(tmp_path.iterdir()) == []
