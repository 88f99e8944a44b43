import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconv
from jaxconv.models import ops
from jaxconv.models.fusion import apart, no_fusion


@pytest.mark.parametrize(("border", "called"), [(no_fusion, True), (lambda f: f, False)])
def test_no_fusion_makes_a_computation_that_xla_does_not_inline(border, called):
    def function(x):
        return border(lambda x: x * 2)(x) + 1

    program = jax.jit(function).lower(jnp.ones(8)).compile().as_text()
    assert (" call(" in program) is called


def test_apart_changes_no_value_and_no_gradient():
    x = jax.random.normal(jax.random.key(0), (3, 4))
    np.testing.assert_array_equal(apart(x), x)
    np.testing.assert_array_equal(jax.grad(lambda x: (apart(x) ** 2).sum())(x), 2 * x)


def value(kernels, form):
    image, (first, second) = jax.random.normal(jax.random.key(0), (4, 10, 10, 1)), kernels
    maps = ops.max_pool(jnp.tanh(ops.conv(image, first, form=form)), 2, form=form)
    maps = ops.avg_pool(jnp.tanh(ops.conv(maps, second, form=form)), form=form)
    return jaxconv.sparse_categorical_crossentropy(maps[:, 0, 0], jnp.arange(4)).sum()


def test_parts_are_differentiable_under_remat():
    kernels = [jax.random.normal(jax.random.key(n), (3, 3, n, 4 * n)) for n in (1, 4)]
    kernels[1] = kernels[1][..., :4]

    def derivatives(form, wrap):
        grad = jax.grad(wrap(lambda kernels: value(kernels, form)))
        return jax.tree.leaves(jax.jvp(jax.jit(grad), (kernels,), (kernels,)))

    found, plain, xla = (
        derivatives(form, wrap)
        for form, wrap in (
            ("patches", jax.checkpoint), ("patches", lambda f: f), ("xla", lambda f: f)
        )
    )  # fmt: skip
    for a, b, c in zip(found, plain, xla, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-4)


def test_a_net_has_its_gradient_under_remat():
    model, image = jaxconv.create_model("lab6", filters=(4, 4, 4)), jnp.ones((4, 28, 28, 1))
    params = model.init(jax.random.key(0), image)

    def loss(params):
        return model.apply(params, image).sum()

    found, expected = (jax.jit(jax.grad(f))(params) for f in (jax.checkpoint(loss), loss))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)
