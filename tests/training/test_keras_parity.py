"""The same numbers as Keras: forward, layer by layer, step by step, and whole histories.

Keras runs on JAX here; KERAS_BACKEND=tensorflow runs the same tests on TensorFlow.
"""

import json

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import jaxconv
from experiments.benchmarks import keras_parity
from experiments.benchmarks.keras_nets import SHAPE, keras_batch, keras_model
from experiments.benchmarks.keras_parity import compare, precision, without_dropout
from experiments.benchmarks.recipes import NOTEBOOKS
from jaxconv.inspection.summary import layer_rows
from jaxconv.models.ops import avg_pool, conv, max_pool

# Both sides take long to compile.
OTHERS = ("dropout", "lab6", "intro", "strided")
NETS = ["dense", *(pytest.param(net, marks=pytest.mark.slow) for net in OTHERS)]


def params_from(arrays, model) -> dict:
    """Keras' list of kernels and biases as a tree."""
    names = [row.name for row in layer_rows(model, SHAPE) if row.params]
    pairs = zip(arrays[::2], arrays[1::2], strict=True)
    return {
        name: {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
        for name, (kernel, bias) in zip(names, pairs, strict=True)
    }


def moments_from(optimizer, model) -> dict:
    """The moments in Keras' optimizer, by optax's names."""
    count, _, *slots = (np.asarray(variable.value) for variable in optimizer.variables)
    if isinstance(optimizer, keras.optimizers.RMSprop):
        return {"nu": params_from(slots, model)}
    mu, nu = (params_from(slots[i::2], model) for i in (0, 1))
    return {"count": jnp.asarray(count, jnp.int32), "mu": mu, "nu": nu}


def largest_difference(a, b) -> float:
    """NaN if there is one, which Python's `max` would lose."""
    leaves = jax.tree.leaves(jax.tree.map(lambda x, y: float(abs(x - y).max()), a, b))
    return float(np.max(leaves))


def steps_beside_keras(net, mnist, dtype, *, reset: bool) -> list[float]:
    """20 steps on both sides; after each the largest difference in parameters, optimizer and loss.

    With `reset`, both begin every step in the same state.
    """
    with precision(dtype):
        keras.utils.set_random_seed(1)
        theirs, (model, own) = (
            keras_model(net, NOTEBOOKS[net], dropout_rate=0.0),
            without_dropout(net, dtype),
        )
        theirs.optimizer.build(theirs.trainable_variables)
        data = jaxconv.Split(mnist.train.image[:640], mnist.train.label[:640])
        image, label = keras_batch(data, NOTEBOOKS[net], dtype)
        step = jax.jit(own.train_step)
        params = params_from(theirs.get_weights(), model)
        state = own.init(jax.random.key(0), SHAPE, params=params)
        distances = []
        for rows in np.arange(640).reshape(20, 32):
            if reset:
                moments = moments_from(theirs.optimizer, model)
                params = params_from(theirs.get_weights(), model)
                opt_state = optax.tree.set(state.opt_state, **moments)
                state = state._replace(params=params, opt_state=opt_state)
            theirs.reset_metrics()
            reported = theirs.train_on_batch(image[rows], label[rows], return_dict=True)
            batch = {name: field[rows] for name, field in data.batch().items()}
            state, sums = step(state, batch)
            moments = moments_from(theirs.optimizer, model)
            ours = {name: optax.tree.get(state.opt_state, name) for name in moments}
            differences = (
                largest_difference(state.params, params_from(theirs.get_weights(), model)),
                largest_difference(ours, moments),
                abs(float(sums["loss"]) / 32 - float(reported["loss"])),
                abs(float(sums["accuracy"]) / 32 - float(reported["accuracy"])),
            )
            distances.append(float(np.max(differences)))
        return distances


@pytest.mark.parametrize("net", NETS)
def test_a_float32_step_from_equal_states_is_keras_step(net, mnist):
    """Except where two cells of a pooling window are nearly equal: there the gradient jumps.

    That happens in few steps, on Keras' side as well as on ours, and moves parameters by some 1e-5;
    in float64, below, it does not happen.
    """
    distances = steps_beside_keras(net, mnist, "float32", reset=True)
    pooled = without_dropout(net, "float32")[0].num_pools > 0
    assert sum(difference <= 1e-6 for difference in distances) >= (18 if pooled else 20)
    assert np.max(distances) < 2e-4
    assert np.median(distances) < 3e-7


def test_sample_weights_are_keras_sample_weight(digits):
    """Keras divides the loss by the samples, and a metric by the weights."""
    image, label = digits.train.image[:100] / np.float32(255), digits.train.label[:100]
    weight = np.random.default_rng(0).uniform(0, 3, 100).astype(np.float32)
    keras.utils.set_random_seed(1)
    theirs = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(10)])
    theirs.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
    )
    kernel, bias = theirs.get_weights()
    given = {"sample_weight": weight, "batch_size": 32, "verbose": 0}
    expected = theirs.fit(image, label, shuffle=False, epochs=2, **given).history
    net = jaxconv.classifier(jaxconv.create_model("dense", hidden=()), optax.sgd(0.1))
    params = {"logits": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}
    batch = {"image": image, "label": label, "weight": weight}
    state = net.init(jax.random.key(0), SHAPE, params=params)
    state, history = jaxconv.fit(net, state, batch, epochs=2, batch_size=32, shuffle=False)
    found = jaxconv.evaluate(net, state, batch)
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose([row[name] for row in history], expected[name], rtol=1e-5)
    assert list(found.values()) == pytest.approx(
        [theirs.evaluate(image, label, **given)[i] for i in (1, 0)], rel=1e-5
    )
    np.testing.assert_allclose(state.params["logits"]["kernel"], theirs.get_weights()[0], atol=1e-6)


def skip_if_keras_rounds(net):
    if keras.backend.backend() == "tensorflow" and NOTEBOOKS[net].optimizer == "adam":
        pytest.skip("Keras on TensorFlow takes Adam's betas from float32, in float64 as well")


@pytest.mark.parametrize("net", NETS)
def test_twenty_free_steps_in_float64_are_keras_steps(net, mnist):
    skip_if_keras_rounds(net)
    assert np.max(steps_beside_keras(net, mnist, "float64", reset=False)) < 1e-9


@pytest.mark.parametrize("net", NETS)
def test_fit_reports_keras_history(net, digits):
    """270 samples, so that every notebook's batch size leaves a partial last batch; 30 held out."""
    skip_if_keras_rounds(net)
    result = compare(net, digits, epochs=2, dtype="float64")
    assert len(result["keras"]["val_loss"]) == len(result["jaxconv"]["val_accuracy"]) == 2
    assert result["jaxconv"]["loss"][1] < result["jaxconv"]["loss"][0]
    assert np.max(list(result["differences"].values())) < 1e-9


def keras_vjp(layer, image, cotangent):
    """Value, and the gradients of the image and of the kernel where there is one."""
    weights = [w.value for w in layer.trainable_variables]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.constant(image)
        with tf.GradientTape() as tape:
            tape.watch([x, *weights])
            value = layer(x)
        gradients = tape.gradient(value, [x, *weights], output_gradients=tf.constant(cotangent))
        return [np.asarray(y) for y in (value, *gradients)]

    @jax.jit
    def value_and_gradients(image, weights, cotangent):
        value, pull = jax.vjp(lambda x, w: layer.stateless_call(w, [], x)[0], image, weights)
        d_image, d_weights = pull(cotangent)
        return value, d_image, *d_weights

    return value_and_gradients(image, weights, cotangent)


LAYERS = {
    "conv": lambda c: keras.layers.Conv2D(
        c["filters"], c["window"], strides=c["strides"], padding=c["padding"], use_bias=False
    ),
    "max_pool": lambda c: keras.layers.MaxPooling2D(c["window"], c["strides"], c["padding"]),
    "avg_pool": lambda c: keras.layers.AveragePooling2D(c["window"], c["strides"], c["padding"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
@given(data=st.data())
def test_layers_and_their_gradients_are_keras_layers(name, data):
    draw = data.draw
    sides = st.tuples(st.integers(1, 9), st.integers(1, 9))
    case = {
        "window": draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "padding": draw(st.sampled_from(["valid", "same"])),
        "filters": draw(st.integers(1, 4)),
    }
    size = draw(sides)
    if case["padding"] == "valid":
        size = tuple(max(pair) for pair in zip(size, case["window"], strict=True))
    # Keras' conv takes one stride for both axes on TensorFlow; pooling takes two everywhere.
    stride = st.integers(1, 4)
    one = name == "conv"
    case["strides"] = draw(stride) if one else draw(st.tuples(stride, stride))
    channels = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = rng.normal(size=(2, *size, channels)).astype(np.float32)
    layer = LAYERS[name](case)
    layer.build(image.shape)
    cotangent = rng.normal(size=layer.compute_output_shape(image.shape)).astype(np.float32)
    expected = keras_vjp(layer, image, cotangent)
    options = {"strides": case["strides"], "padding": case["padding"]}
    ours = {
        "conv": lambda form: lambda x, w: conv(x, w, form=form, **options),
        "max_pool": lambda form: lambda x: max_pool(x, case["window"], form=form, **options),
        "avg_pool": lambda form: lambda x: avg_pool(x, case["window"], form=form, **options),
    }[name]

    @jax.jit
    def both_forms(cotangent, *arrays):
        pairs = (jax.vjp(ours(form), *arrays) for form in ("patches", "xla"))
        return [(value, *pull(cotangent)) for value, pull in pairs]

    kernels = [np.asarray(weight.value) for weight in layer.trainable_variables]
    for found in both_forms(cotangent, image, *kernels):
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("net", NOTEBOOKS)
def test_kernels_start_as_keras_kernels_do(net):
    """Glorot-uniform: its bounds, its distribution, and Keras' own draw from it; zero biases."""
    keras.utils.set_random_seed(0)
    theirs, (model, own) = keras_model(net, NOTEBOOKS[net]), without_dropout(net, "float32")
    params = own.init(jax.random.key(0), SHAPE).params
    drawn = params_from(theirs.get_weights(), model)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, drawn)
    for name, layer in params.items():
        kernel = np.asarray(layer["kernel"])
        *window, fan_in, fan_out = kernel.shape
        limit = np.sqrt(6 / (np.prod(window) * (fan_in + fan_out)))
        assert 0.97 * limit < abs(kernel).max() <= limit
        uniform = stats.uniform(-limit, 2 * limit)
        assert stats.kstest(kernel.ravel(), uniform.cdf).pvalue > 1e-3
        assert stats.kstest(kernel.ravel(), np.ravel(drawn[name]["kernel"])).pvalue > 1e-3
        assert not layer["bias"].any()


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_has_keras_rate_and_scale(rate):
    model = jaxconv.create_model("dropout", dropout_rate=rate)
    params = jaxconv.create_train_state(model, optax.sgd(0.1), jax.random.key(0), SHAPE).params
    image = jax.random.uniform(jax.random.key(1), (50, *SHAPE))
    _, seen = model.apply(
        {"params": params},
        image,
        train=True,
        rngs={"dropout": jax.random.key(2)},
        capture_intermediates=True,
        mutable=["intermediates"],
    )
    before, ours = (
        np.asarray(seen["intermediates"][name]["__call__"][0]) for name in ("flatten", "dropout")
    )
    theirs = np.asarray(keras.layers.Dropout(rate, seed=0)(before, training=True))
    active = before > 0
    deviation = np.sqrt(rate * (1 - rate) / active.sum())
    for after in (ours, theirs):
        np.testing.assert_allclose(after[after > 0], (before / (1 - rate))[after > 0], rtol=1e-6)
        assert abs((after[active] == 0).mean() - rate) < 4 * deviation


@pytest.mark.parametrize("one_hot", [False, True])
def test_crossentropy_is_keras_except_where_keras_on_jax_clips(one_hot):
    """The one intended difference; `losses.py` explains it."""
    logits = np.array(
        [[1.0, -2.0, 0.5], [0.0, 3.0, -1.0], [40.0, 0.0, 0.0], [30.0, 0.0, 0.0]], np.float32
    )
    label = np.array([0, 0, 1, 0])
    name = "categorical_crossentropy"
    ours = getattr(jaxconv, name if one_hot else f"sparse_{name}")
    theirs = getattr(keras.losses, name if one_hot else f"sparse_{name}")
    target = np.eye(3, dtype=np.float32)[label] if one_hot else label
    exact = np.log(np.exp(logits.astype(np.float64)).sum(axis=1)) - logits[range(4), label]
    found = np.asarray(theirs(target, keras.ops.softmax(logits)))
    np.testing.assert_allclose(
        ours(jnp.asarray(logits), jnp.asarray(target)), exact, rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(found[:2], exact[:2], rtol=1e-6)
    if keras.backend.backend() != "jax":
        return
    assert exact[2] == 40
    assert found[2] == pytest.approx(-np.log(1e-7), rel=1e-6)  # 16.1: the clip
    assert found[3] == pytest.approx(1e-7, rel=0.2)  # its other end, in float32

    def gradient(loss):
        return np.asarray(jax.grad(lambda x: loss(x).sum())(jnp.asarray(logits[2:])))

    clipped = gradient(lambda x: theirs(target[2:], keras.ops.softmax(x)))
    np.testing.assert_array_equal(clipped, 0)
    exact = gradient(lambda x: ours(x, jnp.asarray(target[2:])))
    np.testing.assert_allclose(exact[0], [1, -1, 0], atol=1e-6)
    assert (exact[1, 1:] > 0).all()


def test_the_script_prints_writes_and_draws_both_histories(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = keras_parity.main(["dense"], "float32", 40, 2)
    out = capsys.readouterr().out
    assert len([line for line in out.splitlines() if line[6:11] == "keras"]) == 2
    assert "| `dense` | 2 | " in out
    assert f"Run: {folder}" in out
    assert {path.name for path in folder.iterdir()} == {"parity.json", "parity.png"}
    result = json.loads((folder / "parity.json").read_text())["nets"]["dense"]
    assert result["differences"]["loss"] < 1e-5
    for bad, message in (
        ({"samples": 5}, "samples must be 20 to 60000, not 5"),
        ({"epochs": 0}, "epochs must be a positive integer, not 0"),
        ({"seed": -1}, r"seed must be in \[0, 2\*\*32\), not -1"),
    ):
        with pytest.raises(ValueError, match=message):
            keras_parity.main(["dense"], **bad)
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(ValueError, match="Keras on numpy does not train: set KERAS_BACKEND=jax"):
        keras_parity.main(["dense"])
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.name]


def test_a_difference_of_nan_is_not_lost(digits, monkeypatch):
    fit = jaxconv.fit

    def broken(*args, **options):
        state, rows = fit(*args, **options)
        logits = jax.tree.map(lambda x: x * np.nan, state.params["logits"])
        rows[-1]["loss"] = np.nan
        return state._replace(params=state.params | {"logits": logits}), rows

    monkeypatch.setattr(jaxconv, "fit", broken)
    differences = compare("dense", digits, epochs=2, dtype="float32")["differences"]
    assert np.isnan([differences["loss"], differences["weights"]]).all()
