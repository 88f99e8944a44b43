import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.lessons import gradients

SIGMOID = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
FUNCTIONS = {"sigmoid": SIGMOID, "tanh": np.tanh, "relu": lambda z: np.maximum(z, 0)}
DERIVATIVES = {
    "sigmoid": lambda z: SIGMOID(z) * (1 - SIGMOID(z)),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "relu": lambda z: (z > 0).astype(float),
}


def test_curves_match_the_closed_forms():
    curves = gradients.activation_curves()
    for name, function in FUNCTIONS.items():
        x, (values, derivatives) = curves[name]
        np.testing.assert_allclose(values, function(x), atol=1e-6)
        np.testing.assert_allclose(derivatives, DERIVATIVES[name](x), atol=1e-6)
    x, (values, derivatives) = curves["softmax"]
    share = np.exp(x) / (np.exp(x) + 2)
    np.testing.assert_allclose(values, share, atol=1e-6)
    np.testing.assert_allclose(derivatives, share * (1 - share), atol=1e-6)
    for name, largest in gradients.MAX_DERIVATIVE.items():
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
def test_gradients_match_those_by_hand_and_stay_within_the_bound(seed, depth, scale, activation):
    kernels, x, label = net(seed, depth, scale)
    norms = gradients.gradient_norms(kernels, activation, x, label)
    expected = by_hand(kernels, activation, x, label)
    np.testing.assert_allclose(norms, expected, rtol=1e-3, atol=1e-6)
    bound = gradients.gradient_bound(kernels, activation, norms[-1])
    assert (norms <= bound * (1 + 1e-5)).all()


def test_the_bound_is_reached_where_every_derivative_is_the_largest():
    # Two hidden layers of one unit, and inputs of zero. There tanh' = 1. sigmoid'(0) = 0.25 holds
    # in the first layer alone; the second one's input is 3 · sigmoid(0) = 1.5.
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


def test_the_bound_multiplies_the_largest_singular_values():
    kernels, _, _ = net(0, 3, 1.0)
    second, third = (np.linalg.svd(kernel)[1][0] for kernel in kernels[1:3])
    bound = gradients.gradient_bound(kernels, "sigmoid", 8.0)
    np.testing.assert_allclose(bound, [0.5 * second * third, 2 * third, 8], rtol=1e-5)
    assert gradients.factor_per_layer(np.array([2.0, 77.0, 32.0])) == pytest.approx(0.25)


def test_kernels_start_as_keras_does():
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
def test_a_collapsed_stack_gives_the_outputs_of_its_layers(seed, count, stride):
    random = np.random.default_rng(seed)
    channels = random.integers(1, 4, count + 1)
    layers = [
        (random.normal(size=(*random.integers(1, 4, 2), before, after)), random.normal(size=after))
        for before, after in itertools.pairwise(channels)
    ]
    kernel, bias, step = gradients.collapse(layers, stride)
    assert step == stride**count
    size = [n + 2 * step + int(random.integers(stride)) for n in kernel.shape[:2]]
    image = expected = random.normal(size=(*size, channels[0]))
    for layer in layers:
        expected = convolved(expected, *layer, stride)
    output = convolved(image, kernel, bias, step)
    assert output.shape == expected.shape == (3, 3, channels[-1])
    np.testing.assert_allclose(output, expected, rtol=1e-9, atol=1e-9)


def test_layers_that_do_not_fit_are_refused():
    one, two = (np.ones((3, 3, 1, 2)), np.zeros(2)), (np.ones((3, 3, 3, 1)), np.zeros(1))
    with pytest.raises(ValueError, match="takes 3 channels, but the layers before it give 2"):
        gradients.collapse([one, two], 2)
    with pytest.raises(ValueError, match="There is no layer to collapse"):
        gradients.collapse([], 2)
