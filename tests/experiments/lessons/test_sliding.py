import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from experiments.lessons import animate, sliding


@st.composite
def windows(draw) -> sliding.Window:
    """All windows that fit, without pooling windows that lie in the padding alone."""
    operation = draw(st.sampled_from(["conv", "max", "avg"]))
    n, k = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    largest = min(2, k if operation == "conv" else k - 1)
    numbers = range(max(0, -((n - k) // 2)), largest + 1)
    paddings = [*(["valid"] if k <= n else []), "same", *numbers]
    return sliding.Window(
        input_size=n,
        kernel=k,
        stride=draw(st.none() | st.integers(1, 4)),
        padding=draw(st.sampled_from(paddings)),
        channels=draw(st.integers(1, 3)),
        filters=draw(st.integers(1, 2)) if operation == "conv" else 1,
        operation=operation,
    )


def by_loops(slide: sliding.Slide) -> np.ndarray:
    """Computes the output from the image alone, and skips indices outside it."""
    window, k, n = slide.window, slide.window.kernel, slide.window.input_size
    stride = window.stride
    if window.padding == "same":
        size = -(-n // stride)
        before = max((size - 1) * stride + k - n, 0) // 2
    else:
        before = 0 if window.padding == "valid" else window.padding
        size = (n + 2 * before - k) // stride + 1
    output = np.zeros((len(slide.output), size, size))
    for m, row, column in np.ndindex(*output.shape):
        seen = [[] for _ in slide.image]
        for c, i, j in np.ndindex(len(slide.image), k, k):
            y, x = row * stride + i - before, column * stride + j - before
            if 0 <= y < n and 0 <= x < n:
                weight = 1 if slide.kernels is None else slide.kernels[m, c, i, j]
                seen[c].append(weight * slide.image[c, y, x])
        if window.operation == "conv":
            output[m, row, column] = sum(map(sum, seen))
        else:
            reduce = max if window.operation == "max" else np.mean
            output[m, row, column] = reduce(seen[m])
    return output


def sides(line: str) -> tuple[float, float]:
    """The value of the left side of an equation, and its right side."""
    left, right = line.split(": ")[-1].replace("≈", "=").split(" = ")
    names = {"__builtins__": {}, "max": lambda *numbers: max(numbers)}
    return eval(left.replace("·", "*"), names), float(right)


@hypothesis.given(windows(), st.integers(0, 9))
@hypothesis.example(sliding.Window(4, 3, 2, "same", channels=2, filters=2), 0)
@hypothesis.example(sliding.Window(4, 3, 2, 1, channels=2, operation="avg"), 0)
def test_outputs_and_every_line_of_arithmetic_match_loops(window, seed):
    slide = sliding.slide(window, seed)
    expected = by_loops(slide)
    np.testing.assert_allclose(slide.output, expected, rtol=1e-6)
    assert [step.cell for step in slide.steps] == list(np.ndindex(*expected.shape))
    assert sides(slide.formula.replace("floor", ""))[1] == expected.shape[1]
    assert eval(slide.formula.split(" = ")[0], {"floor": np.floor}) == expected.shape[1]
    for step in slide.steps:
        for line in step.lines:
            left, right = sides(line)
            assert left == (right if " = " in line else pytest.approx(right, rel=1e-3))
        assert right == pytest.approx(expected[step.cell], rel=1e-3)
        sums = [sides(line)[1] for line in step.lines[:-1]]
        if slide.kernels is not None and len(slide.image) > 1:
            assert len(sums) == len(slide.image)
            assert (
                step.lines[-1] == f"their sum: {' + '.join(f'{s:.0f}' for s in sums)} = {right:.0f}"
            )
        else:
            assert sums == []


@hypothesis.given(windows())
def test_the_stride_decides_where_the_window_lies_in_the_padded_input(window):
    slide = sliding.slide(window)
    k, (channels, rows, columns) = window.kernel, slide.padded.shape
    inside = [c for c in np.ndindex(rows, columns) if c not in slide.padding_cells]
    assert len(inside) == window.input_size**2
    for c in range(channels):
        assert [slide.padded[c][cell] for cell in inside] == slide.image[c].ravel().tolist()
        assert all(slide.padded[c][cell] == 0 for cell in slide.padding_cells)
    for step in slide.steps:
        assert len(step.covered) == k * k
        corner, last = step.covered[0], step.covered[-1]
        assert corner == tuple(i * slide.window.stride for i in step.cell[1:])
        assert last == (corner[0] + k - 1, corner[1] + k - 1)
        assert max(last) < rows


def test_the_seed_and_the_sizes_decide_the_numbers():
    valid, stride2 = (sliding.slide(animate.EXAMPLES[name]) for name in ("valid", "stride2"))
    assert np.array_equal(stride2.output, valid.output[:, ::2, ::2])
    assert not np.array_equal(sliding.slide(sliding.Window(), seed=1).image, valid.image)
    channels = sliding.slide(animate.EXAMPLES["channels"])
    assert channels.output.shape == (2, 3, 3)
    sums = [(channels.image[c, :3, :3] * channels.kernels[0, c]).sum() for c in range(3)]
    text = f"their sum: {sums[0]} + {sums[1]} + {sums[2]} = {channels.output[0, 0, 0]}"
    assert channels.steps[0].lines[-1] == text


def test_a_rounded_mean_has_no_equals_sign():
    slide = sliding.slide(sliding.Window(4, 3, stride=1, operation="avg"))
    whole = [slide.image[0, i : i + 3, j : j + 3].sum() % 9 == 0 for i, j in np.ndindex(2, 2)]
    assert [" = " in step.lines[0] for step in slide.steps] == whole
    assert not all(whole)
