import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv import patches


def test_what_stands_apart_is_a_computation_of_its_own_and_is_not_inlined():
    def program(border):
        function = lambda x: border(lambda x: x * 2)(x) + 1  # noqa: E731
        return jax.jit(function).lower(jnp.ones(8)).compile().as_text()

    assert [" call(" in program(border) for border in (patches.apart, lambda f: f)] == [True, False]


def test_without_the_experimental_call_results_stay_and_the_loss_is_said(monkeypatch):
    image = jax.random.normal(jax.random.key(0), (2, 6, 7, 3))  # a shape of this test alone
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 3, 4))
    expected = patches.conv(image, kernel, (1, 2), (4, 3))
    patches._patches.clear_cache()
    monkeypatch.setitem(sys.modules, "jax.experimental.scheduling_groups", None)
    with pytest.warns(RuntimeWarning, match="slower on the CPU"):
        found = patches.conv(image, kernel, (1, 2), (4, 3))
    patches._patches.clear_cache()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_first_outputs_are_those_of_the_whole_convolution(channels):
    image = jax.random.normal(jax.random.key(0), (2, 8, 9, channels))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, 4))
    outputs = patches.positions(image.shape, kernel.shape, (2, 1))
    whole = patches.conv(image, kernel, (2, 1), outputs)
    assert whole.shape == (2, 3, 7, 4)
    np.testing.assert_array_equal(patches.conv(image, kernel, (2, 1), (2, 5)), whole[:, :2, :5])
