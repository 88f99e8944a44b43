import itertools
import json
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from experiments.lessons import animate, panels, sliding
from jaxconv.runs.cli import cli

TINY = {"input_size": 3, "kernel": 2}


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
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {"config.json", "result.json", "picture.png", "window.gif"}
    count, durations, arrays = frames(folder / "window.gif")
    assert (count, durations) == (4, [500, 500, 500, 2000])
    assert all(np.any(a != b) for a, b in itertools.pairwise(arrays))
    assert arrays[0].shape[1] == 800
    # 206 is the grey of the marked cells: the window moves from the left to the right.
    marked = [np.argwhere(np.abs(a.astype(int) - 206) < 4)[:, 1].min() for a in arrays[:2]]
    assert marked[0] < marked[1]
    # The last frame has no trace of those before.
    layout = panels.Panels(sliding.slide(sliding.Window(3, 2, channels=2), seed=3))
    figure = Figure(figsize=(panels.FRAME_WIDTH, layout.height))
    layout.draw(figure, 3)
    figure.savefig(tmp_path / "alone.png", dpi=100)
    with Image.open(tmp_path / "alone.png") as alone:
        assert np.abs(np.asarray(alone.convert("L"), int) - arrays[-1]).mean() < 0.2

    assert json.loads((folder / "result.json").read_text()) == result
    entry = result["window"]
    settings = {"input_size": 3, "kernel_size": 2, "stride": 1, "padding": "valid", "channels": 2}
    assert {name: entry[name] for name in settings} == settings
    assert (entry["output_size"], entry["output_size_formula"]) == (2, "floor((3 - 2) / 1) + 1 = 2")
    image, kernel = np.array(entry["input"]), np.array(entry["kernel"])
    assert (image.shape, kernel.shape) == ((2, 3, 3), (1, 2, 2, 2))
    assert entry["output"][0][1][0] == (image[:, 1:, :2] * kernel[0]).sum()
    printed = capsys.readouterr().out
    assert "window: floor((3 - 2) / 1) + 1 = 2; output:\n" in printed
    assert str(np.array(entry["output"][0])) in printed
    assert f"Wrote {folder / 'window.gif'}, 4 frames\n" in printed
    assert printed.endswith(f"Lesson: {folder}\n")


def test_without_options_it_makes_five(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(animate, "write_gif", lambda *arguments: written.append(arguments))
    result = animate.main(animate.Config(output_dir=str(tmp_path / "a")))
    names = ["valid", "same", "stride2", "channels", "max_pool"]
    assert [name for name in result if name in (animate.CUSTOM, *names)] == names
    assert [path.name for _, path, _ in written] == [f"{name}.gif" for name in names]
    assert [result[name]["output_size"] for name in names] == [3, 5, 2, 3, 2]
    assert [len(layout.slide.steps) for layout, _, _ in written] == [9, 25, 4, 18, 4]
    assert result["max_pool"]["kernel"] is None
    with Image.open(tmp_path / "a" / "picture.png") as picture:
        assert picture.width == 2 * 8 * 120
        orange = np.abs(np.asarray(picture.convert("L"), int) - 206) < 4
    rows, columns = np.nonzero(orange)  # frames are beside and below each other
    assert columns.min() < 960 < columns.max()
    assert rows.max() > 0.8 * picture.height


def test_overwriting_removes_the_old_animations(tmp_path):
    folder = tmp_path / "a"
    tiny = {"input_size": 2, "kernel": 2, "output_dir": str(folder)}
    animate.main(animate.Config(**tiny))
    (folder / "same.gif").write_text("one of the five")
    with pytest.raises(FileExistsError, match="already holds a run"):
        animate.main(animate.Config(**tiny))
    assert (folder / "same.gif").exists()
    animate.main(animate.Config(**tiny, overwrite=True))
    assert {path.name for path in folder.glob("*.gif")} == {"window.gif"}
    count, durations, _ = frames(folder / "window.gif")
    assert (count, durations) == (1, [3200])


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
