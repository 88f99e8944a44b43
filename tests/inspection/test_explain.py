import contextlib
import io
import re

import pytest
from flax import linen as nn
from hypothesis import assume, given
from hypothesis import strategies as st

import jaxconv
from jaxconv.inspection.summary import layer_rows


def explained(capsys, model: nn.Module, shape: tuple[int, ...]) -> dict[str, str]:
    """The printed part about each layer, and about the whole."""
    jaxconv.explain(model, shape)
    parts = capsys.readouterr().out.strip().split("\n\n")
    return {part.split()[0]: part for part in parts}


def results(text: str, label: str) -> list[int]:
    """The results at the ends of a line's formulas."""
    lines = [line for line in text.splitlines() if line.strip().startswith(f"{label}:")]
    return [int(n.replace(",", "")) for n in re.findall(r"= ([\d,]+)(?=;|, with|$)", lines[0])]


def check_formulas(text: str) -> None:
    """Checks that Python evaluates every formula to its printed result."""
    for line in text.splitlines():
        for formula, value in re.findall(r"([^:;=]+) = ([\d,]+)(?=;|,? |$)", line):
            code = formula.split(", ")[-1].replace(" positions", "")
            code = code.replace("·", "*").replace(" pixels", "")
            code = re.sub(r"(?<=\d),(?=\d)", "", code)
            code = re.sub(r"floor\((.*)\) \+ 1", r"int(\1) + 1", code)
            code = re.sub(r"ceil\((\d+) / (\d+)\)", r"-(-\1 // \2)", code)
            assert set(code) <= set("int()+-*/ 0123456789"), code
            number = eval(code.replace(" pixels", ""))
            assert number == int(value.replace(",", "")), line


@given(
    st.tuples(st.integers(8, 40), st.integers(8, 40), st.integers(1, 4)),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.one_of(st.integers(1, 4), st.tuples(st.integers(1, 4), st.integers(1, 4))),
    st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3))),
    st.sampled_from(["valid", "same", 0, 1, (1, 0), ((0, 1), (2, 1))]),
    st.integers(0, 1),
)
def test_every_formula_gives_the_models_figure(shape, filters, kernel, strides, padding, pools):
    model = jaxconv.ConvNet(
        filters=tuple(filters),
        kernel_size=kernel,
        strides=strides,
        padding=padding,
        num_pools=pools,
        hidden=(7,),
    )
    printed = io.StringIO()
    try:
        rows = layer_rows(model, shape)
    except ValueError:
        assume(False)
        raise
    with contextlib.redirect_stdout(printed):
        jaxconv.explain(model, shape)
    text = printed.getvalue()
    check_formulas(text)
    parts = {part.split()[0]: part for part in text.strip().split("\n\n")}
    for row in rows:
        part = parts[row.name]
        assert f"{row.input_shape} → {row.output_shape}" in part
        if row.kind in ("Conv", "Pool"):
            sizes = results(part, "size")
            assert sizes == list(row.output_shape[: len(sizes)])
            assert len({*row.output_shape[:2]}) <= len(sizes)
        if row.params:
            assert results(part, "params") == [row.params]
            assert results(part, "multiply-adds") == [row.macs]
    assert f"= {sum(row.params for row in rows):,}\n" in text


def test_notebook_000s_two_formulas_are_printed(capsys):
    parts = explained(capsys, jaxconv.create_model("strided"), (28, 28, 1))
    assert "floor((28 - 3) / 2) + 1 = 13" in parts["conv1"]
    assert "(3·3·1 + 1)·16 = 160" in parts["conv1"]
    five = explained(capsys, jaxconv.create_model("strided"), (28, 28, 5))
    assert "(3·3·5 + 1)·16 = 736" in five["conv1"]
    assert five["Params:"].splitlines()[0].endswith("= 40,970")
    same = explained(capsys, jaxconv.create_model("strided", padding="same"), (28, 28, 1))
    assert [results(same[f"conv{i}"], "size") for i in (1, 2, 3)] == [[14], [7], [4]]
    assert same["Params:"].splitlines()[0].endswith("= 89,546")


class Odd(nn.Module):
    """Layers for which the formula of a plain window does not hold, or may not hold."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), padding="CIRCULAR", name="around")(x)
        x = nn.Conv(4, (3, 3), kernel_dilation=2, use_bias=False, name="after")(x)
        x = nn.BatchNorm(use_running_average=True, name="norm")(x)
        x = nn.max_pool(x, (2, 2))
        x = nn.Conv(4, (3, 3), padding=1, feature_group_count=2, name="grouped")(x)
        x = nn.ConvTranspose(4, (3, 3), name="transposed")(x)
        return nn.Dense(3, name="logits")(x.reshape(len(x), -1))


def test_a_layer_of_another_kind_has_its_figures_and_no_formula(capsys):
    parts = explained(capsys, Odd(), (28, 28, 3))
    for name, params in {"around": 112, "transposed": 148}.items():
        assert parts[name].splitlines()[1:] == [f"  params: {params}"]
    assert parts["norm"].splitlines() == [
        "norm (BatchNorm): (28, 28, 4) → (28, 28, 4)",
        "  params: 4·4 = 16 (mean, var, bias, scale)",
    ]
    assert "params: 3·3·4·4 = 144" in parts["after"]
    assert "(3·3·2 + 1)·4 = 76" in parts["grouped"]
    assert not any("receptive" in parts[name] for name in ("after", "grouped"))


class Pooled(nn.Module):
    """A function between two layers."""

    @nn.compact
    def __call__(self, x):
        x = nn.max_pool(nn.Conv(4, (3, 3), name="first")(x), (2, 2))
        return nn.Conv(4, (3, 3), name="second")(x).mean(axis=(1, 2))


def test_a_function_that_is_no_layer_hides_the_field(capsys):
    parts = explained(capsys, Pooled(), (28, 28, 1))
    assert "3 pixels" in parts["first"]
    assert "size: " in parts["second"]
    assert "receptive field" not in parts["second"]


class Conv(nn.Module):
    """A user's layer, which shares no more than the name."""

    @nn.compact
    def __call__(self, x):
        return x[:, ::2]


class Pool(nn.Module):
    window: str = "wide"

    @nn.compact
    def __call__(self, x):
        return x[:, ::2]


class Flatten(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x.reshape(len(x), x.shape[1], -1)


class Namesakes(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, 3, name="along_one_axis")(x)
        x = Flatten(name="flat")(Pool(name="pool")(Conv(name="conv")(x)))
        return nn.Dense(3, name="logits")(x.reshape(len(x), -1))


def test_layers_of_the_same_name_are_not_taken_for_ours(capsys):
    parts = explained(capsys, Namesakes(), (28, 28, 3))
    assert parts["along_one_axis"].splitlines()[1:] == ["  params: 40"]
    assert parts["conv"] == "conv (Conv): (28, 28, 4) → (14, 28, 4)"
    assert parts["pool"] == "pool (Pool): (14, 28, 4) → (7, 28, 4)"
    assert parts["flat"] == "flat (Flatten): (7, 28, 4) → (7, 112)"


class Branches(nn.Module):
    """Two convolutions of one image, and one behind a function that keeps the shape."""

    @nn.compact
    def __call__(self, x):
        first = nn.Conv(1, (3, 3), name="first")(x)
        second = nn.Conv(1, (5, 5), name="second")(x)
        third = nn.Conv(1, (3, 3), name="third")(nn.relu(second))
        fourth = nn.Conv(1, (3, 3), name="fourth")(third)
        fifth = nn.Conv(1, (3, 3), name="fifth")(first)
        norm = nn.BatchNorm(name="norm")(x=fifth, use_running_average=True)
        return nn.Conv(1, (3, 3), name="sixth")(norm).mean(axis=(1, 2)) + fourth.mean(axis=(1, 2))


def test_each_branch_has_its_own_field(capsys):
    parts = explained(capsys, Branches(), (8, 8, 1))
    pixels = {"first": 3, "second": 5, "third": 7, "fourth": 9, "fifth": 5, "sixth": 7}
    for name, count in pixels.items():
        assert f"= {count} pixels" in parts[name]
        assert ("if positions are kept" in parts[name]) == (name in ("third", "fourth"))


class Joined(nn.Module):
    """Branches that begin and end in functions, one of them under `nn.remat`."""

    @nn.compact
    def __call__(self, x):
        first = nn.remat(nn.Conv)(1, (3, 3), name="first")(nn.relu(x))
        second = nn.Conv(1, (5, 5), name="second")(nn.relu(x))
        third = nn.Conv(1, (3, 3), name="third")(first + second)
        return nn.Conv(1, (3, 3), name="fourth")(third + x).mean(axis=(1, 2))


def test_no_field_is_computed_where_branches_join(capsys):
    parts = explained(capsys, Joined(), (8, 8, 1))
    assert "= 3 pixels, 1·1 = 1 apart, if positions are kept" in parts["first"]
    assert "= 5 pixels, 1·1 = 1 apart, if positions are kept" in parts["second"]
    assert parts["third"].endswith("not computed, since the input joins first, second")
    assert parts["fourth"].endswith("not computed, since the input joins the image, third")


class Products(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.ConvTranspose(3, (3, 3), strides=(2, 2), name="transposed")(x)
        x = nn.DenseGeneral((2, 5), name="general")(x)
        return x.mean(axis=(1, 2, 3))


def test_products_of_other_layers_are_not_counted(capsys):
    parts = explained(capsys, Products(), (8, 8, 4))
    for name, params in {"transposed": 111, "general": 40}.items():
        assert parts[name].splitlines()[1:] == [f"  params: {params}"]
    assert parts["Params:"].splitlines()[1] == "Multiply-adds a sample: not counted"


class Stack(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 5), kernel_dilation=2, padding="VALID", name="dilated")(x)
        x = nn.BatchNorm(use_running_average=True, name="norm")(x)
        x = nn.Conv(4, (3, 3), strides=2, name="same")(x)
        shared = nn.Dense(4, name="shared")
        return shared(shared(x)).mean(axis=(1, 2))


def test_fields_go_on_through_layers_that_keep_positions(capsys):
    parts = explained(capsys, Stack(), (28, 28, 3))
    assert "floor((28 - (2·(3 - 1) + 1)) / 1) + 1 = 24; floor((28 - (2·(5" in parts["dilated"]
    assert "5 + (3 - 1)·1 = 7 pixels, 1·2 = 2 apart; 9 + (3 - 1)·1 = 11 pixels" in parts["same"]
    assert "those of its first call" in parts["shared"]  # the second time
    assert "· 12·10 positions" in parts["shared"]


def test_a_model_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="conv3"):
        jaxconv.explain(jaxconv.create_model("lab6"), (12, 12, 1))
