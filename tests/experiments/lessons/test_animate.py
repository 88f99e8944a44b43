import importlib.util
import itertools
import json
import sys

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from experiments.lessons import animate, sliding
from jaxconv.runs.cli import cli

TINY = {"input_size": 3, "kernel": 2}


@st.composite
def windows(draw) -> sliding.Window:
    """All that slides: with padding, a pooling window that is not all padding."""
    operation = draw(st.sampled_from(["conv", "max", "avg"]))
    n, k = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    most = min(2, k if operation == "conv" else k - 1)
    zeros = range(max(0, -((n - k) // 2)), most + 1)
    paddings = [*(["valid"] if k <= n else []), "same", *zeros]
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
    """The output from the image alone, with indices outside it skipped."""
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
                weight = 1 if slide.kernel is None else slide.kernel[m, c, i, j]
                seen[c].append(weight * slide.image[c, y, x])
        if window.operation == "conv":
            output[m, row, column] = sum(map(sum, seen))
        else:
            reduce = max if window.operation == "max" else np.mean
            output[m, row, column] = reduce(seen[m])
    return output


def sides(line: str) -> tuple[float, float]:
    """What stands left of the equals sign, computed, and right of it."""
    left, right = line.split(": ")[-1].replace("≈", "=").split(" = ")
    names = {"__builtins__": {}, "max": lambda *numbers: max(numbers)}
    return eval(left.replace("·", "*"), names), float(right)


@hypothesis.given(windows(), st.integers(0, 9))
@hypothesis.example(sliding.Window(4, 3, 2, "same", channels=2, filters=2), 0)
@hypothesis.example(sliding.Window(4, 3, 2, 1, channels=2, operation="avg"), 0)
def test_outputs_and_every_line_of_arithmetic_are_those_of_loops(window, seed):
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
        if slide.kernel is not None and len(slide.image) > 1:
            assert len(sums) == len(slide.image)
            assert (
                step.lines[-1] == f"their sum: {' + '.join(f'{s:.0f}' for s in sums)} = {right:.0f}"
            )
        else:
            assert sums == []


@hypothesis.given(windows())
def test_the_window_lies_in_the_padded_input_where_the_stride_says(window):
    slide = sliding.slide(window)
    k, (channels, rows, columns) = window.kernel, slide.padded.shape
    inside = [c for c in np.ndindex(rows, columns) if c not in slide.added]
    assert len(inside) == window.input_size**2
    for c in range(channels):
        assert [slide.padded[c][cell] for cell in inside] == slide.image[c].ravel().tolist()
        assert all(slide.padded[c][cell] == 0 for cell in slide.added)
    for step in slide.steps:
        assert len(step.window) == k * k
        corner, last = step.window[0], step.window[-1]
        assert corner == tuple(i * slide.window.stride for i in step.cell[1:])
        assert last == (corner[0] + k - 1, corner[1] + k - 1)
        assert max(last) < rows


def test_numbers_are_of_the_seed_and_the_same_where_sizes_are():
    valid, stride2 = (sliding.slide(animate.FIVE[name]) for name in ("valid", "stride2"))
    assert np.array_equal(stride2.output, valid.output[:, ::2, ::2])
    assert not np.array_equal(sliding.slide(sliding.Window(), seed=1).image, valid.image)
    channels = sliding.slide(animate.FIVE["channels"])
    assert channels.output.shape == (2, 3, 3)
    sums = [(channels.image[c, :3, :3] * channels.kernel[0, c]).sum() for c in range(3)]
    text = f"their sum: {sums[0]} + {sums[1]} + {sums[2]} = {channels.output[0, 0, 0]}"
    assert channels.steps[0].lines[-1] == text


def test_a_rounded_mean_does_not_say_equals():
    slide = sliding.slide(sliding.Window(4, 3, stride=1, operation="avg"))
    whole = [slide.image[0, i : i + 3, j : j + 3].sum() % 9 == 0 for i, j in np.ndindex(2, 2)]
    assert [" = " in step.lines[0] for step in slide.steps] == whole
    assert not all(whole)


def frames(path) -> tuple[int, list[int], list[np.ndarray]]:
    with Image.open(path) as gif:
        durations, arrays = [], []
        for at in range(gif.n_frames):
            gif.seek(at)
            durations.append(gif.info["duration"])
            arrays.append(np.asarray(gif.convert("L")))
        return gif.n_frames, durations, arrays


def test_options_of_a_window_make_one_animation(tmp_path, capsys):
    folder = tmp_path / "a"
    config = animate.Config(
        input_size=3, kernel=2, channels=2, seed=3, frame_seconds=0.5, output_dir=str(folder)
    )
    result = animate.main(config)
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "result.json", "picture.png", "window.gif"}
    count, durations, arrays = frames(folder / "window.gif")
    assert (count, durations) == (4, [500, 500, 500, 2000])
    assert all(np.any(a != b) for a, b in itertools.pairwise(arrays))
    assert arrays[0].shape[1] == 800
    # Colours that are neither paper nor ink: the window moves from the left to the right.
    marked = [np.argwhere(np.abs(a.astype(int) - 206) < 4)[:, 1].min() for a in arrays[:2]]
    assert marked[0] < marked[1]
    # The last frame has nothing of those before.
    page = animate.Page(sliding.slide(sliding.Window(3, 2, channels=2), seed=3))
    figure = Figure(figsize=(animate.WIDTH, page.height))
    page.draw(figure, 3)
    figure.savefig(tmp_path / "alone.png", dpi=100)
    with Image.open(tmp_path / "alone.png") as alone:
        assert np.abs(np.asarray(alone.convert("L"), int) - arrays[-1]).mean() < 0.2

    assert json.loads((folder / "result.json").read_text()) == result
    mine = result["window"]
    settings = {"input_size": 3, "kernel_size": 2, "stride": 1, "padding": "valid", "channels": 2}
    assert {name: mine[name] for name in settings} == settings
    assert (mine["output_size"], mine["output_size_formula"]) == (2, "floor((3 - 2) / 1) + 1 = 2")
    image, kernel = np.array(mine["input"]), np.array(mine["kernel"])
    assert (image.shape, kernel.shape) == ((2, 3, 3), (1, 2, 2, 2))
    assert mine["output"][0][1][0] == (image[:, 1:, :2] * kernel[0]).sum()
    said = capsys.readouterr().out
    assert "window: floor((3 - 2) / 1) + 1 = 2; output:\n" in said
    assert str(np.array(mine["output"][0])) in said
    assert f"Wrote {folder / 'window.gif'}, 4 frames\n" in said
    assert said.endswith(f"Lesson: {folder}\n")


def test_without_options_it_makes_five(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(animate, "write_gif", lambda page, path, _: written.append((page, path)))
    result = animate.main(animate.Config(output_dir=str(tmp_path / "a")))
    names = ["valid", "same", "stride2", "channels", "max_pool"]
    assert [name for name in result if name in (animate.OWN, *names)] == names
    assert [path.name for _, path in written] == [f"{name}.gif" for name in names]
    assert [result[name]["output_size"] for name in names] == [3, 5, 2, 3, 2]
    assert [len(page.slide.steps) for page, _ in written] == [9, 25, 4, 18, 4]
    assert result["max_pool"]["kernel"] is None
    with Image.open(tmp_path / "a" / "picture.png") as picture:
        assert picture.width == 2 * 8 * 120
        orange = np.abs(np.asarray(picture.convert("L"), int) - 206) < 4
    rows, columns = np.nonzero(orange)  # pages are beside and below each other
    assert columns.min() < 960 < columns.max()
    assert rows.max() > 0.8 * picture.height


def test_another_in_its_place_leaves_nothing_of_it(tmp_path):
    folder = tmp_path / "a"
    tiny = {"input_size": 2, "kernel": 2, "output_dir": str(folder)}
    animate.main(animate.Config(**tiny))
    (folder / "same.gif").write_text("of the five")
    with pytest.raises(FileExistsError, match="already holds a run"):
        animate.main(animate.Config(**tiny))
    assert (folder / "same.gif").exists()
    animate.main(animate.Config(**tiny, overwrite=True))
    assert {path.name for path in folder.glob("*.gif")} == {"window.gif"}
    count, durations, _ = frames(folder / "window.gif")
    assert (count, durations) == (1, [3200])


@pytest.mark.parametrize(
    "window",
    [
        *animate.FIVE.values(),
        sliding.Window(12, 3),
        sliding.Window(4, 5, padding=1, channels=3, filters=4),
        sliding.Window(5, 2, padding="same", channels=3, operation="avg"),
        sliding.Window(3, 1, filters=4),
    ],
)
def test_panels_lie_on_the_page_and_apart(window):
    page = animate.Page(sliding.slide(window))
    k, padded = window.kernel, page.slide.padded.shape[-1]
    boxes = [(x, y, padded) for x, y in page.inputs]
    boxes += [(x, y, k) for places in page.kernels for x, y in places]
    boxes += [(x, y, page.slide.output.shape[-1]) for x, y in page.outputs]
    for x, y, size in boxes:
        assert min(x, y) >= -1e-9
        assert x + size <= page.wide + 1e-9
        assert y + size <= page.tall + 1e-9
    for (x, y, size), (x2, y2, size2) in itertools.combinations(boxes, 2):
        beside = max(x, x2) - min(x + size, x2 + size2)
        below = max(y, y2) - min(y + size, y2 + size2)
        assert max(beside, below) > 1  # there is room for a title
    assert page.wide * page.unit < animate.WIDTH
    assert page.unit >= animate.SMALLEST


def test_long_sums_are_wrapped():
    page = animate.Page(sliding.slide(sliding.Window(5, 5, channels=2)))
    lines = page.lines(0)
    assert max(map(len, lines)) <= animate.LONGEST
    joined = " ".join(line.strip() for line in lines)
    assert joined == " ".join(page.slide.steps[0].lines)
    assert len(lines) == 5


def test_without_matplotlib_the_numbers_remain(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = animate.main(animate.Config(**TINY, output_dir=str(tmp_path / "a")))
    assert result["window"]["output_size"] == 2
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"config.json", "result.json"}
    assert "window.gif is left out (pip install matplotlib)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": 13}, "input_size is at most 12 here, to be legible, not 13"),
        ({"input_size": 0}, "input_size must be a positive integer, not 0"),
        ({"kernel": 6, "input_size": 8}, "kernel is at most 5 here"),
        ({"channels": 4}, "channels is at most 3 here"),
        ({"filters": 5}, "filters is at most 4 here"),
        ({"input_size": 3, "kernel": 4}, "4 cells does not fit into 3 with padding 'valid'"),
        ({"stride": 0}, "stride must be a positive integer, not 0"),
        ({"padding": "full"}, "padding is valid, same or 0 to 4 zeros .*, not 'full'"),
        ({"padding": 5}, "padding is valid, same or 0 to 4 zeros on each side here, not 5"),
        ({"padding": -1}, "not -1"),
        ({"kernel": 2, "padding": 2, "operation": "max"}, "padding 2 fills a whole window of 2×2"),
        ({"operation": "median"}, "Unknown operation 'median'"),
        ({"operation": "max", "filters": 2}, "Pooling has no filters, and 2 were given"),
        ({"input_size": 9, "filters": 4}, "196 outputs are too many to watch, at most 150"),
        ({"input_size": 10, "kernel": 5, "filters": 4}, "Panels of .* not legible, at most 37"),
        ({"seed": -1}, "seed must be 0 or a positive integer, not -1"),
        ({"frame_seconds": float("nan")}, "frame_seconds is 0.02 to 60, not nan"),
        ({"frame_seconds": 0.0}, "frame_seconds is 0.02 to 60, not 0.0"),
        ({"output_dir": ""}, "output_dir is empty"),
    ],
)
def test_bad_settings_are_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        animate.main(animate.Config(**options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input-size", "3", "--kernel", "4"], "error: A window over 4 cells does not fit"),
        (["--operation", "median"], "Invalid choice"),
    ],
)
def test_the_command_line_ends_with_2(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["animate.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli(animate.Config, animate.main, animate.__doc__)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
