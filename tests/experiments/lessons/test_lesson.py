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


def test_the_ticks_of_accuracies_are_as_large_as_those_of_other_panels():
    axes = Figure().subplots()
    sides = {f"{x}_test_accuracy_by_seed": [0.9, 0.8] for x in ("first", "second")}
    lesson.draw_accuracies(axes, {"pairs": 2, "test_accuracy_p": 0.5, **sides}, ("a", "b"))
    assert {x.get_fontsize() for x in axes.get_xticklabels() + axes.get_yticklabels()} == {8}


def test_a_title_is_nearer_to_its_own_picture_than_to_the_one_above(tmp_path):
    panels = []

    def draw(figure):
        panels.extend(figure.subplots(4, 1))
        for axes in panels:
            axes.set(title="a title", xticks=())

    with lesson.lesson_folder("x", lesson.Config(output_dir=str(tmp_path / "a"))) as folder:
        lesson.finish(folder, {}, draw, figsize=(3, 4))
    title = panels[1].title.get_window_extent()
    assert panels[0].bbox.y0 - title.y1 > 5 * (title.y0 - panels[1].bbox.y1)


def test_each_lesson_is_a_script():
    trained = ["activations", "dense_vs_conv", "features", "padding"]
    others = ["animate", "augmentation", "conv1d", "losses", "pooling"]
    assert [path.stem for path in SCRIPTS] == sorted([*trained, *others])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_each_gives_its_command_and_explains_its_options(path, capsys):
    source = path.read_text()
    assert f"python experiments/lessons/{path.name}" in source.partition('"""\n')[0]
    assert "--output-dir" in script_help(path, capsys)
