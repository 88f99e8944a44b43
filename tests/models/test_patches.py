import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxconv import ConvNet
from jaxconv.models import _patches as patches


def test_without_the_experimental_call_results_stay_and_a_warning_appears(monkeypatch, wrapped):
    image = jax.random.normal(jax.random.key(0), (2, 6, 7, 3))  # a shape of this test alone
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 3, 4))
    expected = patches.conv(image, kernel, (1, 2), (4, 3))
    patches._patches.clear_cache()
    monkeypatch.setitem(sys.modules, "jax.experimental.scheduling_groups", None)
    with pytest.warns(RuntimeWarning, match="slower on the CPU") as caught:
        found = patches.conv(image, kernel, (1, 2), (4, 3))
    patches._patches.clear_cache()
    np.testing.assert_array_equal(found, expected)
    assert wrapped or caught[0].filename == patches.__file__


@pytest.mark.parametrize("channels", [1, 2])
def test_the_first_outputs_equal_those_of_the_whole_convolution(channels):
    image = jax.random.normal(jax.random.key(0), (2, 8, 9, channels))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, 4))
    outputs = patches.positions(image.shape, kernel.shape, (2, 1))
    whole = patches.conv(image, kernel, (2, 1), outputs)
    assert whole.shape == (2, 3, 7, 4)
    first = patches.conv(image, kernel, (2, 1), (2, 5))
    np.testing.assert_allclose(first, whole[:, :2, :5], atol=1e-5)


def test_split_batch_keeps_the_results_and_their_order():
    image = jnp.arange(68.0).reshape(68, 1, 1, 1)
    sizes = []

    def function(x):
        sizes.append(len(x))
        return x[:, 0, 0, 0] * 2

    for batch in (60, 64, 66, 68):
        np.testing.assert_array_equal(
            patches.split_batch(function, image[:batch]), 2 * np.arange(batch)
        )
    assert sizes == [60, *[16] * 4, 66, *[17] * 4]


@pytest.mark.slow
def test_a_split_batch_has_the_logits_and_gradients_of_the_whole(monkeypatch):
    model = ConvNet(filters=(3, 4), num_pools=1, form="patches")
    image = jax.random.uniform(jax.random.key(0), (64, 9, 9, 1))
    params = model.init(jax.random.key(1), image)["params"]

    def value(params):
        logits = model.apply({"params": params}, image)
        return (logits**2).sum(), logits

    split = jax.grad(value, has_aux=True)(params)
    calls = []

    def record(next_function, args, kwargs, context):
        calls.append(context.module.name)
        return next_function(*args, **kwargs)

    with nn.intercept_methods(record):
        value(params)
    assert calls.count("conv1") == 4
    monkeypatch.setattr(patches, "MIN_PART", 65)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        split,
        jax.grad(value, has_aux=True)(params),
    )


@pytest.mark.slow
def test_a_batch_divided_among_devices_gives_the_same_and_moves_no_images():
    script = Path(__file__).with_name("mesh_check.py")
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.returncode) == ("all equal\n", 0), run.stderr
