import re

import jax.numpy as jnp
import pytest
from flax import linen as nn

import jaxconv
from jaxconv.inspection.summary import layer_rows, trace_layers
from tests.models.lab6_nnx import Lab6


def test_the_rows_are_those_that_notebook_003_prints():
    rows = layer_rows(jaxconv.create_model("strided"), (28, 28, 5))
    assert [(row.output_shape, row.params) for row in rows] == [
        ((13, 13, 16), 736),
        ((6, 6, 32), 4640),
        ((2, 2, 64), 18_496),
        ((256,), 0),
        ((64,), 16_448),
        ((10,), 650),
    ]


def test_the_rows_are_those_that_notebooks_002_and_004_print():
    intro = layer_rows(jaxconv.create_model("intro"), (28, 28, 1))
    assert [(row.output_shape, row.params) for row in intro[:6]] == [
        ((26, 26, 32), 320),
        ((13, 13, 32), 0),
        ((11, 11, 64), 18_496),
        ((5, 5, 64), 0),
        ((3, 3, 64), 36_928),
        ((576,), 0),
    ]
    dropout = layer_rows(jaxconv.create_model("dropout"), (28, 28, 1))
    assert [row.kind for row in dropout[-3:]] == ["Flatten", "Dropout", "Dense"]
    assert dropout[-3].output_shape == (1600,)


def test_the_same_exercise_goes_28_14_7_4():
    rows = layer_rows(jaxconv.create_model("strided", padding="same"), (28, 28, 1))
    assert [row.output_shape[0] for row in rows[:3]] == [14, 7, 4]


def test_multiply_adds_are_counted_by_definition():
    rows = {row.name: row for row in layer_rows(jaxconv.create_model("lab6"), (28, 28, 1))}
    assert rows["conv1"].macs == 26 * 26 * 32 * 3 * 3 * 1
    assert rows["conv2"].macs == 11 * 11 * 64 * 3 * 3 * 32
    assert rows["logits"].macs == 1152 * 10
    # A train step computes three products a layer, two at the first: 18.2 MFLOP a sample.
    total = 3 * sum(row.macs for row in rows.values()) - rows["conv1"].macs
    assert 2 * total == pytest.approx(18.2e6, rel=0.01)


class Own(nn.Module):
    """A user's model: nested, with BatchNorm, a shared layer and a parameter of its own."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Conv(4, (3, 3), padding="VALID")(x))
        x = x.reshape(x.shape[0], -1)
        shared = nn.Dense(8)
        x = shared(shared(nn.Dense(8)(x)))
        return x * self.param("scale", nn.initializers.ones, (8,))


def test_any_linen_model_has_a_table(capsys):
    rows = {(i, row.kind): row for i, row in enumerate(layer_rows(Own(), (6, 6, 2)))}
    assert rows[0, "Conv"].params == 3 * 3 * 2 * 4 + 4
    assert rows[1, "BatchNorm"].params == 16
    assert rows[2, "Dense"].params == 64 * 8 + 8
    assert [rows[i, "Dense"].params for i in (3, 4)] == [72, 0]  # shared: counted once
    assert rows[3, "Dense"].macs == rows[4, "Dense"].macs == 64
    assert rows[5, "Own"].params == 8
    assert rows[1, "BatchNorm"].macs == 0
    assert rows[5, "Own"].macs is None
    jaxconv.summary(Own(), (6, 6, 2))
    printed = capsys.readouterr().out
    assert re.search(r"Own.* 8 +not counted\n", printed)
    assert f"Multiply-adds a sample: {16 * 72 + 512 + 128:,} + not counted" in printed
    assert f"Total params: {76 + 16 + 520 + 72 + 8}" in printed
    assert "Non-trainable params: 8" in printed


class Pair(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x), x


class Uses(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Pair()(x.reshape(x.shape[0], -1))[0]


def test_a_layer_may_return_more_than_one_array():
    assert [row.params for row in layer_rows(Uses(), (2, 2, 1))] == [15]


def test_the_summary_of_a_model_that_does_not_fit_names_the_layer():
    with pytest.raises(ValueError, match="conv3"):
        jaxconv.summary(jaxconv.create_model("lab6"), (12, 12, 1))


def test_sizes_are_in_binary_units(capsys):
    jaxconv.summary(jaxconv.ConvNet(num_classes=1, dtype=jnp.float32), (1, 1, 1))
    assert "Total params: 2 (8.00 B)" in capsys.readouterr().out
    jaxconv.summary(jaxconv.create_model("dense"), (28, 28, 1))
    assert "Total params: 407,050 (1.55 MiB)" in capsys.readouterr().out


class WithSetup(nn.Module):
    """Its layers are made in `setup`, before the model's own call is recorded."""

    def setup(self):
        self.first = nn.Dense(3)
        self.second = nn.Dense(2)

    def __call__(self, image):
        return self.second(self.first(image.reshape(len(image), -1)))


def test_the_layers_of_a_model_with_setup_have_their_sources():
    class Direct(WithSetup):
        def __call__(self, image):
            return self.second(self.first(image))

    rows, _ = trace_layers(Direct(), (4,))
    assert [(row.name, *row.origin) for row in rows] == [
        ("first", {-1}, True),
        ("second", {0}, True),
    ]


def test_an_nnx_net_has_a_summary(capsys):
    jaxconv.summary(Lab6, (28, 28, 1))
    printed = capsys.readouterr().out
    assert re.search(r"ToLinen.* 104,202 +not counted\n", printed)
    assert "Total params: 104,202" in printed
    assert "Multiply-adds a sample: not counted" in printed
