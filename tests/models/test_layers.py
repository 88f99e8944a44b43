import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxconv import create_model
from jaxconv.models.layers import ACTIVATIONS, Conv, Dense, Pool, activate
from tests.support.params import MNIST_SHAPE, params_of


@pytest.mark.parametrize(
    ("settings", "joined"),
    [
        ({}, True),
        ({"activation": None, "padding": "same", "pool_size": 3}, True),
        ({"activation": nn.relu, "pool_strides": (2, 2), "pool_padding": "VALID"}, True),
        ({"activation": "tanh"}, False),
        ({"pool": "avg"}, False),
        ({"pool_strides": 1}, False),
        ({"pool_padding": "same"}, False),
        ({"form": "xla"}, False),
    ],
)
def test_pooling_before_the_bias_keeps_values_and_gradients(settings, joined):
    pool_calls = []

    def record(next_function, args, kwargs, context):
        pool_calls.extend([context.module.name] * (type(context.module) is Pool))
        return next_function(*args, **kwargs)

    settings = {"form": "patches", **settings}
    model = create_model("intro", filters=(3, 4), num_pools=1, **settings)
    params = params_of(model, (11, 11, 1))
    params["conv1"]["bias"] = jnp.asarray([0.1, -0.2, 0.0])
    image = jax.random.uniform(jax.random.key(1), (5, 11, 11, 1))

    def value(params):
        return (model.apply({"params": params}, image) ** 2).sum()

    def value_layer_by_layer(params):
        conv1 = Conv(3, 3, 1, model.padding, model.activation, "xla")
        pool1 = Pool(model.pool, model.pool_size, model.pool_strides, model.pool_padding, "xla")
        rest = model.clone(filters=(4,), num_pools=0, form="xla")
        x = pool1.apply({}, conv1.apply({"params": params["conv1"]}, image))
        others = {"conv1": params["conv2"], **{k: params[k] for k in ("dense1", "logits")}}
        return (rest.apply({"params": others}, x) ** 2).sum()

    with nn.intercept_methods(record):
        found = jax.value_and_grad(value)(params)
    assert bool(pool_calls) is not joined
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5),
        found,
        jax.value_and_grad(value_layer_by_layer)(params),
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_dtype_and_param_dtype_are_independent(dtype):
    model = create_model("dense", dtype=dtype)
    params = params_of(model)
    assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    assert model.apply({"params": params}, jnp.zeros((1, *MNIST_SHAPE))).dtype == dtype


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: params_of(Conv(0)), "filters must be .* not 0"),
        (lambda: Conv(2).init(jax.random.key(0), jnp.ones((8, 8, 1))), r"not \(8, 8, 1\)"),
        (lambda: params_of(Dense(-1), (4,)), "units must be .* not -1"),
        (lambda: Pool("min").apply({}, jnp.ones((1, 8, 8, 1))), "kind of pooling 'min'"),
        (lambda: Pool().apply({}, jnp.ones((1, 8, 8, 1), jnp.uint8)), "here, not uint8"),
        (lambda: activate("rulu", jnp.ones(1)), r"Unknown activation 'rulu' \(did you mean 'relu'"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("shape", [MNIST_SHAPE, (64, 28, 1)])
@pytest.mark.usefixtures("untyped")
def test_images_without_a_batch_are_refused_before_their_channels(shape):
    model = create_model("lab6")
    message = rf"'conv1': Images are .* not \({shape[0]}, 28, 1\)"
    with pytest.raises(ValueError, match=message):
        model.apply({"params": params_of(model)}, jnp.ones(shape))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "'conv1': the pooling window of 2×2 does not fit into 1×1"),
        ({"pool_size": 0}, "'pool1': window must be a positive integer, not 0"),
    ],
)
def test_apply_names_the_layer_that_a_small_image_does_not_fit(settings, message):
    params = params_of(create_model("lab6", form="patches"))
    with pytest.raises(ValueError, match=message):
        create_model("lab6", form="patches", **settings).apply(
            {"params": params}, jnp.ones((1, 3, 3, 1))
        )


def test_inputs_of_another_size_than_the_parameters_are_refused():
    model = create_model("strided")
    with pytest.raises(ValueError, match=r"'conv1': the input has 5 channels, .* 1: convert the"):
        model.apply({"params": params_of(model)}, jnp.zeros((1, 28, 28, 5)))
    with pytest.raises(
        ValueError, match=r"'dense1': the input has 128 features, .* for 256: resize"
    ):
        model.apply({"params": params_of(model)}, jnp.zeros((1, 23, 20, 1)))


def test_named_activations_match_their_definitions():
    x = jnp.linspace(-3, 3, 13)
    for name, expected in {
        "linear": x,
        "relu": np.maximum(x, 0),
        "sigmoid": 1 / (1 + np.exp(-x)),
        "softplus": np.log1p(np.exp(x)),
        "tanh": np.tanh(x),
        "silu": x / (1 + np.exp(-x)),
        "elu": np.where(x > 0, x, np.expm1(x)),
    }.items():
        np.testing.assert_allclose(activate(name, x), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(activate(None, x), x)
    keras = pytest.importorskip("keras")
    for name, function in ACTIVATIONS.items():
        expected = keras.activations.get(name)(x[None])
        np.testing.assert_allclose(function(x[None]), expected, rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(activate(jnp.square, x), x**2)
