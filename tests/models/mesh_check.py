"""A train step on a batch divided among four devices; `test_patches` runs it in a fresh process."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxconv
from jaxconv.data import warp


def assert_close(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected
    )


def main():
    model, tx = jaxconv.ConvNet(filters=(3, 4), num_pools=1, form="patches"), jaxconv.rmsprop()
    state = jaxconv.create_train_state(model, tx, jax.random.key(0), (9, 9, 1))
    image = jax.random.uniform(jax.random.key(1), (64, 9, 9, 1))
    batch = {"image": image, "label": jnp.arange(64) % 10}
    step = jaxconv.make_train_step(model, tx)

    @jax.jit
    def grad_fn(params, image):
        return jax.grad(lambda params: (model.apply({"params": params}, image) ** 2).sum())(params)

    # XLA divides the step by itself, and moves no image and no feature map between devices.
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    replicated, divided = (NamedSharding(mesh, P(*axes)) for axes in ((), ("batch",)))
    arguments = jax.device_put(state, replicated), jax.device_put(batch, divided)
    compiled = jax.jit(step).lower(*arguments).compile()
    assert not re.findall(r" (all-gather|all-to-all|collective-permute)\(", compiled.as_text())
    assert_close(compiled(*arguments)[0].params, jax.jit(step)(state, batch)[0].params)

    expected = grad_fn(state.params, image)
    mapped = jax.shard_map(grad_fn, mesh=mesh, in_specs=(P(), P("batch")), out_specs=P())
    assert_close(jax.jit(mapped)(state.params, image), expected)

    explicit = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(explicit):
        params = jax.device_put(state.params, NamedSharding(explicit, P()))
        divided_image = jax.device_put(image, NamedSharding(explicit, P("batch")))
        assert_close(grad_fn(params, divided_image), expected)
    # `make_mesh` makes such axes unless it is told otherwise, since JAX 0.12.
    arguments = (
        jax.device_put(state, NamedSharding(explicit, P())),
        jax.device_put(batch, NamedSharding(explicit, P("batch"))),
    )
    found, one = jax.jit(step)(*arguments), jax.jit(step)(state, batch)
    assert_close(found[0].params, one[0].params)
    assert_close(found[1], one[1])
    # BatchNorm's means are those of the whole batch, and each image is changed as alone.
    normed = jaxconv.classifier(
        model.clone(batch_norm=True, global_pool=True),
        tx,
        augment=warp(rotation=10, zoom=0.1, shift=1.0, elastic=0.5),
    )
    begun = normed.init(jax.random.key(0), (9, 9, 1))
    everywhere = jax.device_put(begun, NamedSharding(explicit, P()))
    found, one = (
        jax.jit(normed.train_step)(*given)[0]
        for given in ((everywhere, arguments[1]), (begun, batch))
    )
    assert_close((found.params, found.batch_stats), (one.params, one.batch_stats))

    (size,) = export.symbolic_shape("size")
    logits = jax.jit(lambda image: model.apply({"params": state.params}, image))
    exported = export.export(logits)(jax.ShapeDtypeStruct((size, 9, 9, 1), jnp.float32))
    assert_close(exported.call(image), logits(image))
    print("all equal")


if __name__ == "__main__":
    main()
