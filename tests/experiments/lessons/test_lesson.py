from pathlib import Path

import pytest
from matplotlib.figure import Figure

from experiments.lessons import lesson
from tests.support.command_line_runs import script_help

LESSONS = Path(lesson.__file__).parent
SCRIPTS = [path for path in sorted(LESSONS.glob("*.py")) if "\n    cli(" in path.read_text()]


def test_a_picture_that_fails_costs_no_result(tmp_path, capsys):
    def draw(_: object) -> None:
        raise KeyError("cannot")

    with lesson.lesson_folder("x", lesson.Config(output_dir=str(tmp_path / "a"))) as folder:
        lesson.finish(folder, {"a": 1}, draw, figsize=(1, 1))
    assert {path.name for path in folder.iterdir()} - {".lock"} == {
        "config.json",
        "result.json",
    }
    assert "picture.png WAS NOT WRITTEN: KeyError: 'cannot'" in capsys.readouterr().err


def test_a_comparison_without_pairs_is_named_in_its_panel():
    axes = Figure().subplots()
    lesson.draw_accuracies(axes, {"pairs": 0}, ("a", "b"))
    assert axes.get_title() == "every seed diverged"


def test_each_notebooks_lesson_is_a_script():
    trained = ["activations", "dense_vs_conv", "features", "padding"]
    others = ["animate", "conv1d", "losses", "pooling"]
    assert [path.stem for path in SCRIPTS] == sorted([*trained, *others])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_each_gives_its_command_and_explains_its_options(path, capsys):
    source = path.read_text()
    assert f"python experiments/lessons/{path.name}" in source.partition('"""\n')[0]
    assert "--output-dir" in script_help(path, capsys)
