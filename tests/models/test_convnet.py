import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv import ConvNet, create_model
from jaxconv.models.convnet import ARCHITECTURES
from tests.support.params import MNIST_SHAPE, params_of


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
def test_parameter_counts_equal_the_notebooks(name, settings, channels, expected):
    assert count(params_of(create_model(name, **settings), (28, 28, channels))) == expected


def test_the_layers_of_notebook_003_have_its_printed_counts():
    params = params_of(create_model("strided"), (28, 28, 5))
    counts = {name: count(layer) for name, layer in params.items()}
    expected = {"conv1": 736, "conv2": 4640, "conv3": 18_496, "dense1": 16_448, "logits": 650}
    assert counts == expected
    assert count(params_of(create_model("strided"))["conv1"]) == 160


def test_the_convolutions_of_intro_have_55744_parameters():
    params = params_of(create_model("intro"))
    assert sum(count(params[f"conv{i}"]) for i in (1, 2, 3)) == 55_744


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_form_changes_neither_parameters_nor_logits(name):
    image = jax.random.uniform(jax.random.key(1), (5, *MNIST_SHAPE))
    patches, xla = (create_model(name, form=form) for form in ("patches", "xla"))
    params = params_of(patches)
    jax.tree.map(np.testing.assert_array_equal, params, params_of(xla))
    np.testing.assert_allclose(
        patches.apply({"params": params}, image), xla.apply({"params": params}, image), atol=1e-5
    )


@pytest.mark.slow
def test_every_setting_of_the_exercises_is_an_argument():
    same = create_model("strided", padding="SAME")
    assert params_of(same)["dense1"]["kernel"].shape == (4 * 4 * 64, 64)
    padded = create_model("lab6", padding=1, pool="avg", pool_padding="same", activation="tanh")
    assert params_of(padded)["logits"]["kernel"].shape == (7 * 7 * 128, 10)
    ring = create_model("lab6", padding=((1, 0), (2, 1)), kernel_size=(5, 3), pool_strides=1)
    assert params_of(ring)["conv2"]["kernel"].shape == (5, 3, 32, 64)
    assert params_of(create_model("dropout", num_classes=3))["logits"]["bias"].shape == (3,)


def test_an_empty_batch_gives_empty_logits():
    model = create_model("lab6")
    assert model.apply({"params": params_of(model)}, jnp.zeros((0, *MNIST_SHAPE))).shape == (0, 10)


def test_dropout_zeroes_its_share_and_scales_the_rest_only_in_training():
    model = ConvNet(dropout_rate=0.25, num_classes=4000)
    params = {"logits": {"kernel": jnp.ones((1, 4000)), "bias": jnp.zeros(4000)}}
    image = jnp.ones((1000, 1, 1, 1))
    np.testing.assert_array_equal(model.apply({"params": params}, image), 1.0)
    key = {"dropout": jax.random.key(0)}
    dropped = model.apply({"params": params}, image, train=True, rngs=key)[:, 0]
    assert set(np.unique(dropped).tolist()) == {0.0, float(np.float32(1) / np.float32(0.75))}
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.05)


@pytest.mark.usefixtures("x64")
def test_a_float64_net_computes_in_float64():
    model = create_model("dense", dtype=jnp.float64, param_dtype=jnp.float64)
    params = params_of(model)
    assert model.apply({"params": params}, jnp.zeros((1, *MNIST_SHAPE))).dtype == jnp.float64


def test_float64_needs_64_bits_enabled():
    with pytest.raises(ValueError, match="jax_enable_x64"):
        create_model("lab6", param_dtype=jnp.float64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create_model("lab5"), r"Unknown architecture 'lab5' \(did you mean 'lab6'\?\)"),
        (lambda: create_model("lab6", paddings=1), r"'paddings' \(did you mean 'padding'\?\)"),
        (lambda: params_of(create_model("lab6"), (12, 12, 1)), "'conv3': a window of 3×3 .* 1×1"),
        (lambda: params_of(create_model("lab6"), (3, 3, 1)), "'pool1': a window of 2×2 .* 1×1"),
        (lambda: params_of(create_model("dropout", dropout_rate=1.5)), r"in \[0, 1\), not 1.5"),
        (lambda: params_of(create_model("lab6", filters=(8,))), "num_pools must be 0 to 1, .* 2"),
        (lambda: params_of(create_model("lab6", num_classes=-1)), "units must be .* not -1"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_settings_may_be_lists_and_models_stay_hashable():
    model = create_model("lab6", filters=[8, 16, 16], padding=[[1, 0], [0, 1]])
    assert hash(model) == hash(create_model("lab6", filters=(8, 16, 16), padding=((1, 0), (0, 1))))
