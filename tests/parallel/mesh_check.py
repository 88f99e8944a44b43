"""Trains on four devices of one process; `test_batches.py` runs this in a fresh process.

JAX_NUM_CPU_DEVICES=4 python tests/parallel/mesh_check.py
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxconv
from jaxconv import parallel
from jaxconv.data import compose, erase, warp
from jaxconv.training.replicas import evaluate_seeds, fit_seeds


class Normed(nn.Module):
    @nn.compact
    def __call__(self, image, *, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train)(image.reshape(len(image), -1))
        return nn.Dense(10)(x)


class Standardised(nn.Module):
    """Has no finite gradient for an image of one brightness."""

    @nn.compact
    def __call__(self, image):
        x = image.reshape(len(image), -1)
        return nn.Dense(10)((x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True))


def close(found, expected, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def refused(message):
    return pytest.raises(ValueError, match=message)


def on_mesh(net, mesh):
    """The net for batches that the mesh divides."""
    steps = (parallel.data_parallel(step, mesh) for step in (net.train_step, net.eval_step))
    return net._replace(**dict(zip(("train_step", "eval_step"), steps, strict=True)))


def main():
    mesh = parallel.data_mesh(4)
    assert [parallel.data_mesh(n).size for n in (2, None)] == [2, 4]
    with refused("at most 4, all that process 0 has"):
        parallel.data_mesh(5)

    model, tx = jaxconv.create_model("dropout", filters=(3, 4)), jaxconv.adam()
    augment = compose(warp(rotation=15.0, shift=1.0, elastic=1.0), erase(4))
    net = jaxconv.classifier(model, tx, augment=augment)
    shared = on_mesh(net, mesh)
    step, divided = net.train_step, shared.train_step
    init = jax.jit(lambda key: net.init(key, (28, 28, 1)))
    state = init(jax.random.key(3))
    everywhere = parallel.replicate(state, mesh)
    assert len(everywhere.rng.sharding.device_set) == 4
    assert jnp.array_equal(
        jax.random.key_data(parallel.unreplicate(everywhere).rng), jax.random.key_data(state.rng)
    )
    assert len(parallel.unreplicate(everywhere).step.sharding.device_set) == 1

    # A step on a batch that does not divide: every sample counts once, and is changed the same.
    train = jaxconv.load_dataset().train.batch()
    for size in (64, 61, 3):
        batch = {name: x[:size] for name, x in train.items()}
        alone, sums = jax.jit(step)(state, batch)
        found, found_sums = jax.jit(divided)(everywhere, batch)
        assert int(found_sums["count"]) == size
        close(found_sums, sums, 1e-4)
        close(found.params, alone.params)

    # The rows that each process holds make the same batch.
    batch = {name: x[:61] for name, x in train.items()}
    assembled = parallel.global_batch(batch, 61, mesh)
    assert {name: x.shape[0] for name, x in assembled.items()} == {
        "image": 64,
        "label": 64,
        "mask": 64,
    }
    assert assembled["image"].sharding.shard_shape(assembled["image"].shape)[0] == 16
    with refused("is divided"):
        parallel.unreplicate(assembled)
    _, whole = jax.jit(divided)(everywhere, batch)
    _, parts = jax.jit(divided)(everywhere, assembled)
    close(parts, whole, 0)

    # XLA sums gradients over the devices, and moves no image between them.
    program = jax.jit(divided).lower(everywhere, assembled).compile().as_text()
    assert "all-reduce" in program
    assert not re.findall(r" (all-gather|all-to-all|collective-permute)\(", program)

    # A mask of the caller's own stays.
    masked = {**batch, "mask": np.arange(61) < 7}
    assert int(jax.jit(divided)(everywhere, masked)[1]["count"]) == 7

    # Whole epochs: the same samples in the same order.
    data = {name: x[:300] for name, x in train.items()}
    run = {"epochs": 2, "batch_size": 64}
    alone, history = jaxconv.fit(net, state, data, **run)
    found, rows = jaxconv.fit(shared, everywhere, parallel.replicate(data, mesh, same=True), **run)
    assert [row["accuracy"] for row in rows] == [row["accuracy"] for row in history]
    close([row["loss"] for row in rows], [row["loss"] for row in history])
    means = jaxconv.evaluate(shared, found, data, batch_size=37)
    close(means, jaxconv.evaluate(net, alone, data))

    # Several seeds on several devices.
    keys = [jax.random.key(seed) for seed in (3, 4)]
    for strategy in ("map", "vmap"):
        options = {"strategy": strategy, "epochs": 1, "batch_size": 64}
        one, _ = fit_seeds(net, init, keys, data, **options)
        many, _ = fit_seeds(
            shared,
            lambda key: parallel.replicate(init(key), mesh),
            keys,
            parallel.replicate(data, mesh),
            **options,
        )
        close(many.params, one.params)
        rows = evaluate_seeds(shared, many, data, strategy=strategy)
        close(rows, evaluate_seeds(net, one, data))

    # BatchNorm's statistics are those of the whole batch, and padding would enter them.
    net = jaxconv.classifier(Normed(), jaxconv.rmsprop())
    shared, step = on_mesh(net, mesh), net.train_step
    divided = jax.jit(shared.train_step)
    state = net.init(jax.random.key(0), (28, 28, 1))
    everywhere = parallel.replicate(state, mesh)
    batch = {name: x[:64] for name, x in train.items()}
    close(divided(everywhere, batch)[0].batch_stats, jax.jit(step)(state, batch)[0].batch_stats)
    uneven = {name: x[:61] for name, x in train.items()}
    with refused("without 'mask', whose size the number of devices divides"):
        divided(everywhere, uneven)
    means = jaxconv.evaluate(shared, everywhere, uneven, batch_size=30)
    close(means, jaxconv.evaluate(net, state, uneven))

    # Values computed from padding are finite if those of the batch are.
    net = jaxconv.classifier(Standardised(), jaxconv.rmsprop())
    step, state = net.train_step, net.init(jax.random.key(0), (28, 28, 1))
    divided = jax.jit(on_mesh(net, mesh).train_step)
    found, _ = divided(parallel.replicate(state, mesh), uneven)
    close(found.params, jax.jit(step)(state, uneven)[0].params)
    print("all the same")


if __name__ == "__main__":
    main()
