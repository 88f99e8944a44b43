import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxconv
from jaxconv.arithmetic import multiply_adds, train_step_flops
from jaxconv.tabulate import layer_rows

PACKAGE = Path(jaxconv.__file__).parent


def test_it_needs_no_jax():
    code = "import sys; import arithmetic; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE)


@pytest.mark.parametrize(
    ("kernel", "shape"), [((3, 3, 2, 4), (5, 6, 4)), ((7, 3), (3,)), ((1, 1, 8, 8), (2, 2, 8))]
)
def test_a_layer_costs_what_xla_counts(kernel, shape):
    """XLA counts the FLOPs of a product exactly, and of a VALID convolution without padding."""
    weights = jnp.ones(kernel)
    if len(kernel) == 2:
        cost = jax.jit(jnp.matmul).lower(jnp.ones((1, kernel[0])), weights).cost_analysis()
    else:
        size = [n + k - 1 for n, k in zip(shape[:2], kernel[:2], strict=True)]
        image = jnp.ones((1, *size, kernel[2]))
        form = {"padding": "VALID", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        conv = jax.jit(lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), **form))
        cost = conv.lower(image, weights).cost_analysis()
    assert cost["flops"] == 2 * multiply_adds(kernel, shape)


def test_a_train_step_takes_three_products_a_layer_and_two_of_the_first():
    assert train_step_flops([10, 0, 100, 0]) == 2 * (2 * 10 + 3 * 100)
    assert train_step_flops([0, 10]) == 2 * 2 * 10  # flatten comes first
    assert train_step_flops([10, 100], batch_size=7) == 7 * train_step_flops([10, 100])
    assert train_step_flops([]) == 0


def test_the_flops_of_a_dense_step_are_xlas_own():
    """Of a net that is nothing but products, XLA counts those and little else."""
    model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
    state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
    batch = {"image": jnp.ones((512, 28, 28, 1)), "label": jnp.zeros(512, int)}
    step = jax.jit(jaxconv.make_train_step(model, tx)).lower(state, batch)
    layers = [row.multiply_adds for row in layer_rows(model, (28, 28, 1))]
    assert step.cost_analysis()["flops"] == pytest.approx(train_step_flops(layers, 512), rel=0.02)
