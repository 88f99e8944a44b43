import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxconv.models.ops import avg_pool, conv, conv_max_pool, max_pool
from tests.support import oracles

FORMS = ("patches", "xla")


@st.composite
def cases(draw):
    """Odd and even sizes; windows larger and smaller than the stride and the image."""
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    window = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    strides = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    side = st.tuples(st.integers(0, 2), st.integers(0, 2))
    padding = draw(st.sampled_from(["valid", "SAME", "Same"]) | st.tuples(side, side))
    pads = {"valid": ((0, 0), (0, 0)), "same": oracles.same_pads(size, window, strides)}
    pads = pads[padding.lower()] if isinstance(padding, str) else padding
    fits = all(n + sum(p) >= w for n, p, w in zip(size, pads, window, strict=True))
    if not fits:
        window = tuple(min(w, n + sum(p)) for n, p, w in zip(size, pads, window, strict=True))
    channels, filters = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    seed = draw(st.integers(0, 2**32 - 1))
    return size, window, strides, padding, pads, channels, filters, np.random.default_rng(seed)


def check(form, function, arrays, expected, cotangent, tolerance=2e-5):
    """Compares value and gradients, plain and mapped over the batch, with the oracle's."""

    def value_and_grads(cotangent, *arrays):
        value, pull = jax.vjp(lambda *xs: function(*xs, form=form), *arrays)
        return value, *pull(cotangent)

    @jax.jit
    def plain_and_mapped(cotangent, image, *rest):
        value, d_image, *d_rest = jax.vmap(lambda g, x: value_and_grads(g[None], x[None], *rest))(
            cotangent, image
        )
        mapped = value[:, 0], d_image[:, 0], *(d.sum(axis=0) for d in d_rest)
        return value_and_grads(cotangent, image, *rest), mapped

    for found in plain_and_mapped(cotangent, *arrays):
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("form", FORMS)
@given(case=cases())
def test_conv_and_its_gradients_match_numpy(form, case):
    size, window, strides, padding, pads, channels, filters, rng = case
    image = rng.normal(size=(2, *size, channels)).astype(np.float32)
    kernel = rng.normal(size=(*window, channels, filters)).astype(np.float32)
    shape = oracles.conv(image, kernel, strides, pads).shape
    cotangent = rng.normal(size=shape).astype(np.float32)
    expected = oracles.conv(image, kernel, strides, pads, cotangent)

    def function(image, kernel, form):
        return conv(image, kernel, strides=strides, padding=padding, form=form)

    check(form, function, (jnp.asarray(image), jnp.asarray(kernel)), expected, cotangent)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
@given(case=cases())
def test_pooling_and_its_gradient_match_numpy(name, form, case):
    size, window, strides, padding, pads, channels, _, rng = case
    if not isinstance(padding, str):  # no window may cover padding alone
        pads = tuple(tuple(min(p, w - 1) for p in pad) for pad, w in zip(pads, window, strict=True))
        window = tuple(min(w, n + sum(p)) for w, n, p in zip(window, size, pads, strict=True))
        pads = tuple(tuple(min(p, w - 1) for p in pad) for pad, w in zip(pads, window, strict=True))
        padding = pads
    # Few distinct values, so that most windows hold ties.
    image = rng.integers(-2, 3, size=(2, *size, channels)).astype(np.float32)
    pool, oracle = {"max_pool": max_pool, "avg_pool": avg_pool}[name], getattr(oracles, name)
    shape = jax.eval_shape(
        lambda x: pool(x, window, strides=strides, padding=padding, form=form), image
    ).shape
    cotangent = rng.normal(size=shape).astype(np.float32)

    def function(image, form):
        return pool(image, window, strides=strides, padding=padding, form=form)

    expected = oracle(image, window, strides, pads, cotangent)
    check(form, function, (jnp.asarray(image),), expected, cotangent)


@given(case=cases(), pool=st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_a_pooled_convolution_and_its_gradients_match_numpy(case, pool):
    size, window, strides, padding, pads, channels, filters, rng = case
    image = rng.normal(size=(2, *size, channels)).astype(np.float32)
    kernel = rng.normal(size=(*window, channels, filters)).astype(np.float32)
    maps = oracles.conv(image, kernel, strides, pads)
    pool = tuple(min(p, n) for p, n in zip(pool, maps.shape[1:3], strict=True))
    shape = (2, *(n // p for n, p in zip(maps.shape[1:3], pool, strict=True)), filters)
    cotangent = rng.normal(size=shape).astype(np.float32)
    none = ((0, 0), (0, 0))
    pooled, d_maps = oracles.max_pool(maps, pool, pool, none, cotangent)
    _, *grads = oracles.conv(image, kernel, strides, pads, d_maps)

    def function(image, kernel, form):
        return conv_max_pool(image, kernel, pool, strides=strides, padding=padding, form=form)

    expected = pooled, *grads
    check("patches", function, (jnp.asarray(image), jnp.asarray(kernel)), expected, cotangent)


def test_the_xla_form_of_a_pooled_convolution_pools_the_convolution():
    image = jax.random.normal(jax.random.key(0), (2, 8, 9, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 2, 4))
    found = conv_max_pool(image, kernel, (2, 3), strides=(1, 2), padding="same", form="xla")
    maps = conv(image, kernel, strides=(1, 2), padding="same", form="xla")
    np.testing.assert_array_equal(found, max_pool(maps, (2, 3), form="xla"))


def test_a_pooled_convolution_computes_only_what_its_windows_cover():
    image, kernel = jnp.ones((1, 13, 13, 2)), jnp.ones((3, 3, 2, 4))
    traced = [
        str(jax.make_jaxpr(function)(image, kernel))
        for function in (
            lambda *xs: max_pool(conv(*xs, form="patches"), form="patches"),
            lambda *xs: conv_max_pool(*xs, form="patches"),
        )
    ]
    assert ["11,11" in text for text in traced] == [True, False]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("image", "strides", "padding", "expected"),
    [
        ([[1, 2, 3], [4, 5, 6], [7, 8, 9]], 1, "valid", [[5, 6], [8, 9]]),
        ([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]], 2, "valid", [[6, 8]]),
        ([[1, 2, 3], [4, 5, 6], [7, 8, 9]], 1, "same", [[5, 6, 6], [8, 9, 9], [8, 9, 9]]),
    ],
)
def test_max_pool_returns_the_numbers_of_notebook_001(form, image, strides, padding, expected):
    image = jnp.asarray(image, jnp.float32)[None, :, :, None]
    found = max_pool(image, 2, strides=strides, padding=padding, form=form)
    np.testing.assert_array_equal(found[0, :, :, 0], expected)


def test_conv_returns_the_shape_of_notebook_001():
    image, kernel = jnp.ones((4, 10, 10, 128)), jnp.ones((3, 3, 128, 32))
    assert conv(image, kernel).shape == (4, 8, 8, 32)


@pytest.mark.parametrize("form", FORMS)
def test_the_first_of_equal_maxima_takes_the_whole_gradient(form):
    grad = jax.grad(lambda x: max_pool(x, 2, form=form).sum())(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(grad[0, :, :, 0], [[1, 0], [0, 0]])


@pytest.mark.parametrize("form", FORMS)
def test_a_window_of_more_than_256_cells_still_finds_its_winner(form):
    image = jnp.zeros((1, 2, 140, 1)).at[0, 1, 135, 0].set(1.0)  # cell 275
    grad = jax.jit(jax.grad(lambda x: max_pool(x, (2, 140), form=form).sum()))(image)
    np.testing.assert_array_equal(grad, image)


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_cells_are_averaged_in_float32(form):
    image = jnp.array([256, 1, 1, 1], jnp.bfloat16).reshape(1, 2, 2, 1)
    found = avg_pool(image, form=form)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, jnp.bfloat16(259 / 4))  # 256 + 1 is 256 in bfloat16


@pytest.mark.parametrize("form", FORMS)
def test_nan_is_not_pooled_away(form):
    image = jnp.ones((1, 2, 2, 1)).at[0, 1, 0, 0].set(jnp.nan)
    assert jnp.isnan(max_pool(image, 2, form=form)).all()


@pytest.mark.parametrize("form", FORMS)
def test_convolutions_have_forward_mode_and_second_derivatives(form):
    image = jax.random.normal(jax.random.key(0), (2, 6, 6, 1))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 2))

    def value(kernel):
        return (conv(conv(image, kernel, form=form)[..., :1], kernel, form=form) ** 3).mean()

    _, slope = jax.jvp(value, (kernel,), (kernel,))
    np.testing.assert_allclose(slope, (jax.grad(value)(kernel) * kernel).sum(), rtol=1e-4)
    _, curve = jax.jvp(jax.grad(value), (kernel,), (kernel,))
    # The value is homogeneous of degree 6 in the kernel: Euler's theorem.
    np.testing.assert_allclose(curve, 5 * jax.grad(value)(kernel), rtol=1e-3, atol=1e-3)


def test_forward_mode_needs_the_xla_form_of_max_pool():
    image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    _, tangent = jax.jvp(lambda x: max_pool(x, 2, form="xla"), (image,), (jnp.ones_like(image),))
    np.testing.assert_array_equal(tangent, jnp.ones((1, 2, 2, 1)))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: max_pool(x, 2, form="patches"), (image,), (image,))


def test_the_form_follows_the_backend(monkeypatch):
    def traced() -> str:
        return str(
            jax.make_jaxpr(lambda *xs: conv(*xs))(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2)))
        )

    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert "conv_general_dilated" not in traced()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "conv_general_dilated" in traced()


IMAGE, KERNEL = jnp.ones((1, 4, 5, 1)), jnp.ones((3, 3, 1, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conv(IMAGE, jnp.ones((3, 3, 2, 2))), "has 1 channels .* expects 2"),
        (lambda: conv(IMAGE, jnp.ones((5, 3, 1, 2))), "5×3 does not fit into 4×5"),
        (lambda: conv(IMAGE, KERNEL, strides=0), "strides must be a positive integer, not 0"),
        (lambda: conv(IMAGE, KERNEL, strides=(1, 2, 3)), r"one integer or two .*\(1, 2, 3\)"),
        (lambda: conv(IMAGE, KERNEL, padding="full"), "padding is .* not 'full'"),
        (lambda: conv(IMAGE, KERNEL, padding=-1), "padding is .* not -1"),
        (lambda: conv(IMAGE, KERNEL, padding=((1, 2), (3,))), "padding is .* not"),
        (lambda: conv(IMAGE, KERNEL, padding=25_000), "makes images of 50004×50005: take less"),
        (lambda: max_pool(IMAGE, 2, padding=2), "padding 2 fills a whole window of 2×2"),
        (
            lambda: conv_max_pool(IMAGE, KERNEL, 3, form="patches"),
            "the pooling window of 3×3 does not fit into 2×3",
        ),
        (lambda: conv_max_pool(IMAGE, jnp.ones((3, 3, 2, 2))), "has 1 channels .* expects 2"),
        (lambda: max_pool(IMAGE, 6), "6×6 does not fit into 4×5"),
        (lambda: max_pool(IMAGE, 2, form="fast"), "Unknown form 'fast'"),
        (lambda: max_pool(IMAGE, 2, form="None"), "Unknown form 'None'"),
        (lambda: avg_pool(IMAGE, 2, strides=1.5), "strides must be a positive integer, not 1.5"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_arguments_are_refused_and_quoted(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("form", FORMS)
def test_image_and_kernel_may_differ_in_dtype(form):
    assert conv(IMAGE.astype(jnp.bfloat16), KERNEL, form=form).dtype == jnp.float32


@pytest.mark.parametrize(("padding", "pairs"), [(2, ((2, 2), (2, 2))), ((1, 0), ((1, 1), (0, 0)))])
def test_padding_takes_the_forms_of_zero_padding_2d(padding, pairs):
    image = jax.random.normal(jax.random.key(0), (1, 4, 5, 1))
    np.testing.assert_array_equal(
        conv(image, KERNEL, padding=padding), conv(image, KERNEL, padding=pairs)
    )


@pytest.mark.parametrize("pool", [max_pool, avg_pool])
def test_a_window_is_two_by_two_unless_named(pool):
    image = jnp.arange(36.0).reshape(1, 6, 6, 1)
    np.testing.assert_array_equal(pool(image), pool(image, (2, 2)))
