import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import jaxconv
from jaxconv.inspection.arithmetic import (
    conv_params,
    dense_params,
    explicit_padding,
    macs,
    output_size,
    train_step_flops,
)
from jaxconv.inspection.summary import layer_rows


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
    assert cost["flops"] == 2 * macs(kernel, shape)


def test_a_train_step_takes_three_products_a_layer_and_two_of_the_first():
    assert train_step_flops([10, 0, 100, 0]) == 2 * (2 * 10 + 3 * 100)
    assert train_step_flops([0, None, 10]) == 2 * 2 * 10  # flatten comes first
    assert train_step_flops([10, 100], batch_size=7) == 7 * train_step_flops([10, 100])
    assert train_step_flops([]) == 0


def test_the_flops_of_a_dense_step_are_xlas_own():
    """In a net of products alone, XLA counts those and little else."""
    model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
    state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
    batch = {"image": jnp.ones((512, 28, 28, 1)), "label": jnp.zeros(512, int)}
    step = jax.jit(jaxconv.make_train_step(model, tx)).lower(state, batch)
    layers = [row.macs for row in layer_rows(model, (28, 28, 1))]
    assert step.cost_analysis()["flops"] == pytest.approx(train_step_flops(layers, 512), rel=0.02)


SMALL = st.integers(1, 5)
PADDINGS = st.one_of(
    st.sampled_from(["valid", "same", "full", "SAME"]),
    st.integers(0, 3),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
)


@given(st.integers(1, 40), SMALL, SMALL, PADDINGS, st.integers(1, 3))
def test_an_output_has_the_size_that_xla_gives_it(size, kernel, stride, padding, dilation):
    if padding in ("valid", "same", "SAME"):
        pads = padding.upper()
    elif padding == "full":
        pads = [((kernel - 1) * dilation,) * 2]
    else:
        pads = [padding if isinstance(padding, tuple) else (padding, padding)]
    traced = jax.eval_shape(
        lambda x, k: lax.conv_general_dilated(
            x, k, (stride,), pads, rhs_dilation=(dilation,), dimension_numbers=("NWC", "WIO", "NWC")
        ),
        jax.ShapeDtypeStruct((1, size, 1), jnp.float32),
        jax.ShapeDtypeStruct((kernel, 1, 1), jnp.float32),
    ).shape[1]
    if traced == 0:
        with pytest.raises(ValueError, match=f"does not fit into {size}"):
            output_size(size, kernel, stride, padding, dilation)
    else:
        assert output_size(size, kernel, stride, padding, dilation) == traced


@given(st.integers(1, 40), SMALL, SMALL, st.integers(1, 3))
def test_same_adds_the_zeros_that_xla_adds(size, kernel, stride, dilation):
    extent = dilation * (kernel - 1) + 1
    (expected,) = lax.padtype_to_pads((size,), (extent,), (stride,), "SAME")
    assert explicit_padding(size, kernel, stride, "same", dilation) == expected


@given(SMALL, SMALL, SMALL, SMALL, st.booleans())
def test_parameters_are_those_of_the_real_trees(height, width, channels, filters, bias):
    def count(layer: nn.Module, *shape: int) -> int:
        made = jax.eval_shape(layer.init, jax.random.key(0), jnp.ones((1, *shape)))
        return sum(x.size for x in jax.tree.leaves(made))

    conv = nn.Conv(filters, (height, width), use_bias=bias)
    size = (height, width)
    assert conv_params(size, channels, filters, bias=bias) == count(conv, 6, 6, channels)
    dense = nn.Dense(filters, use_bias=bias)
    assert dense_params(channels, filters, bias=bias) == count(dense, channels)
    own = jaxconv.models.Conv(filters, size)
    assert conv_params(size, channels, filters) == count(own, 6, 6, channels)
    assert dense_params(channels, filters) == count(jaxconv.models.Dense(filters), channels)


def test_the_notebooks_numbers():
    sizes, same = [28], [28]
    for _ in range(3):
        sizes.append(output_size(sizes[-1], 3, 2))
        same.append(output_size(same[-1], 3, 2, "same"))
    assert (sizes, same) == ([28, 13, 6, 2], [28, 14, 7, 4])
    convs = [conv_params((3, 3), c, f) for c, f in ((1, 16), (16, 32), (32, 64))]
    assert convs == [160, 4640, 18_496]
    assert conv_params((3, 3), 5, 16) == 736
    assert [dense_params(n, 64) for n in (2 * 2 * 64,)] == [16_448]
    assert dense_params(64, 10) == 650
    # The exercise: the flattened 4×4×64 feeds the dense layer.
    assert sum(convs) + dense_params(4 * 4 * 64, 64) + dense_params(64, 10) == 89_546
    assert dense_params(28 * 28, 30) == 23_550
    assert [output_size(10, 3)] * 2 == [8, 8]  # 001: (4, 10, 10, 128) to (4, 8, 8, 32)
    assert sum(conv_params((3, 3), c, f) for c, f in ((1, 32), (32, 64), (64, 64))) == 55_744


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((28, 0), "kernel must be a positive integer, not 0"),
        ((28, 3, 0), "stride must be a positive integer, not 0"),
        ((0, 3), "size must be a positive integer, not 0"),
        ((28, 3, 1, "valid", -1), "dilation must be a positive integer, not -1"),
        ((28, 3, 1, "middle"), "not 'middle'"),
        ((28, 3, 1, -1), "not -1"),
        ((28, 3, 1, (1, -1)), r"not \(1, -1\)"),
        ((2, 3), "A window over 3 cells does not fit into 2 with padding 'valid'"),
        ((4, 3, 1, 0, 2), "over 5 cells does not fit into 4"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        output_size(*arguments)


def test_a_net_for_five_channels_refuses_images_of_one():
    """File 003 declares five channels and trains on MNIST, which has one."""
    model, tx = jaxconv.create_model("strided"), jaxconv.adam()
    state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 5))
    batch = {"image": np.zeros((4, 28, 28, 1), np.uint8), "label": np.zeros(4, np.int32)}
    with pytest.raises(ValueError, match=r"'conv1': the input has 1 channels, .* for 5: "):
        jaxconv.make_train_step(model, tx)(state, batch)
