import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxconv import ConvNet, create_model
from jaxconv.models.convnet import ARCHITECTURES
from jaxconv.models.layers import Conv, Pool, activate

SHAPE = (28, 28, 1)


def params_of(model: nn.Module, shape=SHAPE, seed: int = 0):
    return model.init(jax.random.key(seed), jnp.zeros((1, *shape)))["params"]


def count(params) -> int:
    return sum(x.size for x in jax.tree.leaves(params))


# Printed by the notebooks, or by Keras' summary of their nets.
@pytest.mark.parametrize(
    ("name", "settings", "channels", "expected"),
    [
        ("strided", {}, 1, 40_394),
        ("strided", {}, 5, 40_970),
        ("strided", {"padding": "same"}, 1, 89_546),
        ("lab6", {}, 1, 104_202),
        ("intro", {}, 1, 93_322),
        ("dropout", {}, 1, 34_826),
        ("dense", {}, 1, 407_050),
    ],
)
def test_parameter_counts_are_the_notebooks(name, settings, channels, expected):
    assert count(params_of(create_model(name, **settings), (28, 28, channels))) == expected


def test_the_layers_of_notebook_003_have_the_counts_that_it_prints():
    params = params_of(create_model("strided"), (28, 28, 5))
    counts = {name: count(layer) for name, layer in params.items()}
    expected = {"conv1": 736, "conv2": 4640, "conv3": 18_496, "dense1": 16_448, "logits": 650}
    assert counts == expected
    assert (
        count({k: v for k, v in params_of(create_model("strided")).items() if k == "conv1"}) == 160
    )


def test_the_head_of_intro_comes_after_55744_parameters():
    params = params_of(create_model("intro"))
    assert sum(count(params[f"conv{i}"]) for i in (1, 2, 3)) == 55_744


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_form_changes_neither_parameters_nor_logits(name):
    image = jax.random.uniform(jax.random.key(1), (5, *SHAPE))
    patches, xla = (create_model(name, form=form) for form in ("patches", "xla"))
    params = params_of(patches)
    jax.tree.map(np.testing.assert_array_equal, params, params_of(xla))
    np.testing.assert_allclose(
        patches.apply({"params": params}, image), xla.apply({"params": params}, image), atol=1e-5
    )


@pytest.mark.parametrize(
    ("settings", "together"),
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
def test_pooling_before_bias_and_activation_changes_neither_value_nor_gradient(settings, together):
    layer_by_layer = []

    def record(next_function, args, kwargs, context):
        layer_by_layer.extend([context.module.name] * (type(context.module) is Pool))
        return next_function(*args, **kwargs)

    settings = {"form": "patches", **settings}
    model = create_model("intro", filters=(3, 4), num_pools=1, **settings)
    params = params_of(model, (11, 11, 1))
    params["conv1"]["bias"] = jnp.asarray([0.1, -0.2, 0.0])
    image = jax.random.uniform(jax.random.key(1), (5, 11, 11, 1))

    def value(params):
        return (model.apply({"params": params}, image) ** 2).sum()

    def alone(params):
        conv1 = Conv(3, 3, 1, model.padding, model.activation, "xla")
        pool1 = Pool(model.pool, model.pool_size, model.pool_strides, model.pool_padding, "xla")
        rest = model.clone(filters=(4,), num_pools=0, form="xla")
        x = pool1.apply({}, conv1.apply({"params": params["conv1"]}, image))
        others = {"conv1": params["conv2"], **{k: params[k] for k in ("dense1", "logits")}}
        return (rest.apply({"params": others}, x) ** 2).sum()

    with nn.intercept_methods(record):
        found = jax.value_and_grad(value)(params)
    assert bool(layer_by_layer) is not together
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5),
        found,
        jax.value_and_grad(alone)(params),
    )


@pytest.mark.slow
def test_every_setting_of_the_exercises_is_an_argument():
    same = create_model("strided", padding="SAME")
    np.testing.assert_array_equal(params_of(same)["dense1"]["kernel"].shape, (4 * 4 * 64, 64))
    padded = create_model("lab6", padding=1, pool="avg", pool_padding="same", activation="tanh")
    assert params_of(padded)["logits"]["kernel"].shape == (7 * 7 * 128, 10)
    ring = create_model("lab6", padding=((1, 0), (2, 1)), kernel_size=(5, 3), pool_strides=1)
    assert params_of(ring)["conv2"]["kernel"].shape == (5, 3, 32, 64)
    assert params_of(create_model("dropout", num_classes=3))["logits"]["bias"].shape == (3,)


def test_an_empty_batch_gives_empty_logits():
    model = create_model("lab6")
    assert model.apply({"params": params_of(model)}, jnp.zeros((0, *SHAPE))).shape == (0, 10)


def test_dropout_zeroes_its_share_and_scales_the_rest_in_training_alone():
    model = ConvNet(dropout_rate=0.25, num_classes=4000)
    params = {"logits": {"kernel": jnp.ones((1, 4000)), "bias": jnp.zeros(4000)}}
    image = jnp.ones((1000, 1, 1, 1))
    still = model.apply({"params": params}, image)
    np.testing.assert_array_equal(still, 1.0)
    key = {"dropout": jax.random.key(0)}
    moving = model.apply({"params": params}, image, train=True, rngs=key)[:, 0]
    assert set(np.unique(moving).tolist()) == {0.0, float(np.float32(1) / np.float32(0.75))}
    assert (moving == 0).mean() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_layers_compute_in_their_dtype_and_keep_parameters_in_theirs(dtype):
    model = create_model("dense", dtype=dtype)
    params = params_of(model)
    assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    assert model.apply({"params": params}, jnp.zeros((1, *SHAPE))).dtype == dtype


@pytest.mark.usefixtures("x64")
def test_float64_is_float64():
    model = create_model("dense", dtype=jnp.float64, param_dtype=jnp.float64)
    params = params_of(model)
    assert model.apply({"params": params}, jnp.zeros((1, *SHAPE))).dtype == jnp.float64


def test_float64_without_64_bits_is_refused():
    with pytest.raises(ValueError, match="jax_enable_x64"):
        create_model("lab6", param_dtype=jnp.float64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create_model("lab5"), r"Unknown architecture 'lab5' \(did you mean 'lab6'\?\)"),
        (lambda: create_model("lab6", paddings=1), r"'paddings' \(did you mean 'padding'\?\)"),
        (lambda: params_of(create_model("lab6"), (12, 12, 1)), "'conv3': a window of 3×3 .* 1×1"),
        (lambda: params_of(create_model("lab6"), (3, 3, 1)), "'pool1': a window of 2×2 .* 1×1"),
        (lambda: params_of(create_model("lab6", pool="min")), "kind of pooling 'min'"),
        (lambda: params_of(create_model("dropout", dropout_rate=1.5)), r"in \[0, 1\), not 1.5"),
        (lambda: params_of(create_model("lab6", filters=(8,))), "num_pools must be 0 to 1, .* 2"),
        (lambda: params_of(create_model("lab6", filters=(8, 0))), "filters must be .* not 0"),
        (lambda: params_of(create_model("lab6", num_classes=-1)), "units must be .* not -1"),
        (lambda: activate("rulu", jnp.ones(1)), r"Unknown activation 'rulu' \(did you mean 'relu'"),
        (lambda: Conv(2).init(jax.random.key(0), jnp.ones((8, 8, 1))), r"not \(8, 8, 1\)"),
        (
            lambda: Pool().apply({}, jnp.ones((1, 8, 8, 1), jnp.uint8)),
            "floating-point here, not uint8",
        ),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_settings_are_refused_and_the_layer_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("shape", [SHAPE, (64, 28, 1)])
@pytest.mark.usefixtures("untyped")
def test_images_without_a_batch_are_named_before_parameters_are_compared(shape):
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
def test_what_does_not_fit_after_the_parameters_are_made_is_named_too(settings, message):
    params = params_of(create_model("lab6", form="patches"))
    with pytest.raises(ValueError, match=message):
        create_model("lab6", form="patches", **settings).apply(
            {"params": params}, jnp.ones((1, 3, 3, 1))
        )


def test_settings_may_be_lists_and_models_stay_hashable():
    model = create_model("lab6", filters=[8, 16, 16], padding=[[1, 0], [0, 1]])
    assert hash(model) == hash(create_model("lab6", filters=(8, 16, 16), padding=((1, 0), (0, 1))))


def test_five_channels_do_not_fit_parameters_made_for_one():
    model = create_model("strided")
    with pytest.raises(ValueError, match=r"'conv1': the input has 5 channels, .* for 1: create"):
        model.apply({"params": params_of(model)}, jnp.zeros((1, 28, 28, 5)))
    with pytest.raises(ValueError, match=r"'dense1': the input has 128 features, .* for 256"):
        model.apply({"params": params_of(model)}, jnp.zeros((1, 23, 20, 1)))


def test_activations_by_name_match_their_definitions():
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
    np.testing.assert_array_equal(activate(jnp.square, x), x**2)
