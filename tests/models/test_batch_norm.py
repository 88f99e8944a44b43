"""BatchNorm and global pooling as settings of `ConvNet`, beside Keras and in both forms."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

import jaxconv
from experiments.benchmarks.keras_nets import SHAPE
from experiments.benchmarks.keras_parity import precision
from jaxconv.export import load_variables, load_weights, save_weights
from jaxconv.inspection import explain, feature_maps, layer_rows
from jaxconv.training import fit_seeds

NET = jaxconv.ConvNet(
    filters=(4, 6), num_pools=1, batch_norm=True, global_pool=True, activation="elu"
)


def keras_net() -> keras.Model:
    layers = [keras.Input(SHAPE)]
    for filters, pools in ((4, [keras.layers.MaxPooling2D()]), (6, [])):
        layers.append(keras.layers.Conv2D(filters, 3, use_bias=False))
        layers += [keras.layers.BatchNormalization(), keras.layers.Activation("elu"), *pools]
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
    return keras.Sequential([*layers, *head])


def variables_of(state: jaxconv.TrainState) -> dict:
    return {"params": state.params, "batch_stats": state.batch_stats}


def assert_equal(a, b, atol=0.0) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol), a, b)


def test_float64_training_is_that_of_keras(digits, tmp_path):
    """Two epochs with a partial batch: parameters, running statistics, and what they predict."""
    path, image = tmp_path / "net.weights.h5", digits.train.image[:100] / 255.0
    label, given = digits.train.label[:100], {"epochs": 2, "batch_size": 32, "shuffle": False}
    with precision("float64"):
        keras.utils.set_random_seed(1)
        theirs = keras_net()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        theirs.compile(keras.optimizers.SGD(0.1), loss)
        theirs.save_weights(path)
        model = NET.clone(dtype=jnp.float64, param_dtype=jnp.float64)
        net = jaxconv.classifier(model, optax.sgd(0.1))
        state = net.init(jax.random.key(0), SHAPE, **load_variables(path, model, SHAPE))
        expected = theirs.fit(image, label, verbose=0, **given).history["loss"]
        batch = {"image": image, "label": label}
        state, rows = jaxconv.fit(net, state, batch, **given)
        theirs.save_weights(path)
        found = load_variables(path, model, SHAPE)
        logits = theirs.predict(image, verbose=0)
        own = model.apply(variables_of(state), jnp.asarray(image))
    # Keras' BatchNorm is 4e-7 from NumPy's in float64, Flax' 1e-15; our statistics are float32.
    assert_equal(state.params, found["params"], atol=1e-6)
    assert_equal(state.batch_stats, found["batch_stats"], atol=1e-5)
    assert_equal([row["loss"] for row in rows], expected, atol=1e-6)
    assert_equal(own, logits, atol=1e-5)
    assert (np.asarray(state.batch_stats["norm2"]["var"]) != 1).all()


def test_weights_come_and_go(digits, tmp_path):
    """Keras computes what the trained net computes, and a file without a statistic is refused."""
    net = jaxconv.classifier(NET, jaxconv.adam())
    state = net.init(jax.random.key(0), SHAPE)
    state, _ = jaxconv.fit(net, state, digits.train[:64], epochs=2, batch_size=32)
    path, theirs = tmp_path / "net.weights.h5", keras_net()
    save_weights(path, model=NET, input_shape=SHAPE, **variables_of(state))
    theirs.load_weights(path)
    image = digits.test.image[:50]
    expected = keras.ops.softmax(theirs.predict(image / np.float32(255), verbose=0))
    np.testing.assert_allclose(jaxconv.predict(net, state, image), expected, atol=1e-5)
    assert_equal(load_variables(path, NET, SHAPE), variables_of(state))
    with pytest.raises(ValueError, match=r"running statistics .* read both with load_variables"):
        load_weights(path, NET, SHAPE)
    with pytest.raises(ValueError, match=r"batch_stats\['norm1'\]\['mean'\] is missing"):
        save_weights(tmp_path / "b.weights.h5", state.params, NET, SHAPE)
    theirs = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten()])
    theirs.add(keras.layers.BatchNormalization(scale=False))
    theirs.save_weights(path)
    with pytest.raises(ValueError, match=r"norm1.* \(batch_normalization in the file, .* no var"):
        load_variables(path, NET, SHAPE)


def test_given_statistics_are_checked():
    net = jaxconv.classifier(NET, jaxconv.adam())
    state = net.init(jax.random.key(0), SHAPE)
    wrong = jax.tree.map(lambda x: x[:1], state.batch_stats)
    with pytest.raises(
        ValueError, match=r"batch_stats\['norm1'\]\['mean'\] is \(1,\) float32, but"
    ):
        net.init(jax.random.key(0), SHAPE, batch_stats=wrong)
    moved = jax.tree.map(lambda x: x + 1, state.batch_stats)
    begun = net.init(jax.random.key(0), SHAPE, batch_stats=moved)
    assert_equal(begun.batch_stats, moved)
    assert_equal(begun.params, state.params)


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_both_forms_agree(digits, pool):
    """In value, gradient and statistics, over a batch that the patches form takes in parts."""
    image = jnp.asarray(digits.train.image[:64] / np.float32(255))
    label = jnp.asarray(digits.train.label[:64])

    def loss(params, model, stats):
        variables = {"params": params, "batch_stats": stats}
        logits, updated = model.apply(variables, image, train=True, mutable=["batch_stats"])
        return jaxconv.sparse_categorical_crossentropy(logits, label).mean(), updated

    found = []
    for form in ("patches", "xla"):
        model = NET.clone(form=form, pool=pool)
        start = NET.init(jax.random.key(0), image)
        grad = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
        found.append(grad(start["params"], model, start["batch_stats"]))
    assert_equal(*found, atol=1e-5)


def test_replicas_are_those_alone_to_the_bit(digits):
    net = jaxconv.classifier(NET, jaxconv.adam())
    init = jax.jit(lambda key: net.init(key, SHAPE))
    keys = [jax.random.key(seed) for seed in (3, 4)]
    options = {"epochs": 1, "batch_size": 32}
    together, _ = fit_seeds(net, init, keys, digits.train[:100], strategy="map", group=2, **options)
    alone, _ = jaxconv.fit(net, init(keys[1]), digits.train[:100], **options)
    assert_equal(jax.tree.map(lambda x: x[1], variables_of(together)), variables_of(alone))


def test_its_layers_are_seen(digits, capsys):
    rows = {row.name: row for row in layer_rows(NET, SHAPE)}
    assert [*rows] == ["conv1", "norm1", "pool1", "conv2", "norm2", "mean", "logits"]
    assert [row.params for row in rows.values()] == [36, 16, 0, 216, 24, 0, 70]
    assert rows["norm1"].macs == rows["mean"].macs == 0
    explain(NET, SHAPE)
    printed = capsys.readouterr().out
    assert "params: 4·6 = 24 (mean, var, bias, scale)" in printed
    assert "size: means over 11·11 positions" in printed
    state = jaxconv.classifier(NET, jaxconv.adam()).init(jax.random.key(0), SHAPE)
    maps = feature_maps(NET, state, digits.test.image[:3])
    np.testing.assert_allclose(maps["mean"], jax.nn.elu(maps["norm2"]).mean(axis=(1, 2)), atol=1e-6)


def test_a_mean_of_bfloat16_sums_in_float32():
    image = jnp.full((1, 64, 64, 1), 1.0078125, jnp.bfloat16)
    found = jaxconv.models.GlobalPool().apply({}, image)
    assert found.dtype == jnp.bfloat16
    assert float(found[0, 0]) == 1.0078125
