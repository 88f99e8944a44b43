import io
import sys

import pytest
from rich.console import Console

from jaxconv.runs.progress import Progress, epoch_line, spinner

ROW = {"loss": 0.03076, "accuracy": 0.99031}


@pytest.mark.parametrize(
    ("seconds", "pace"), [(2.6, "3s - 3ms"), (0.1, "0s - 107us"), (10_000.0, "10000s - 11s")]
)
def test_the_line_is_keras(seconds, pace):
    row = {**ROW, "val_loss": 0.00012, "val_accuracy": 0.98, "epoch": 3, "seconds": seconds}
    assert epoch_line(row, 938, 938) == (
        f"938/938 - {pace}/step - accuracy: 0.9903 - loss: 0.0308"
        " - val_accuracy: 0.9800 - val_loss: 1.2000e-04"
    )


def show(progress: Progress) -> None:
    with progress:
        for epoch in (1, 2):
            for step in (5, 10):
                progress.on_chunk(
                    {"epoch": epoch, "step": step, "steps": 10, "seconds": 0.1, **ROW}
                )
            progress.on_epoch({"epoch": epoch, "seconds": 0.5, **ROW})


def test_without_a_terminal_an_epoch_is_one_plain_line(capsys):
    show(Progress(2))
    lines = capsys.readouterr().out.splitlines()
    expected = "10/10 - 0s - 50ms/step - accuracy: 0.9903 - loss: 0.0308"
    assert lines == [f"Epoch 1/2 - {expected}", f"Epoch 2/2 - {expected}"]


def be_a_terminal(monkeypatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")


def test_a_bar_pulses_while_jax_compiles_or_evaluates(capsys, monkeypatch):
    be_a_terminal(monkeypatch)
    progress, seen = Progress(2), []
    bar = progress._bar

    def look():
        (task,) = bar.tasks
        seen.append((task.description, task.total, task.completed, task.fields["line"]))

    monkeypatch.setattr(bar, "start", look)
    on_chunk = progress.on_chunk
    monkeypatch.setattr(progress, "on_chunk", lambda row: (on_chunk(row), look()))
    show(progress)
    lines = [f"{n}/10 - accuracy: 0.9903 - loss: 0.0308" for n in (5, 10)]
    end = ("Evaluating", None, 0, lines[1])
    assert seen == [
        ("Compiling", None, 0, ""),
        *[("Epoch 1/2", 10, 5, lines[0]), end],
        *[("Epoch 2/2", 10, 5, lines[0]), end],
    ]


def test_a_terminal_gets_a_live_bar_and_then_whole_lines(capsys, monkeypatch):
    be_a_terminal(monkeypatch)
    show(Progress(2))
    out = capsys.readouterr().out
    assert "Compiling" in out
    assert "━" in out
    assert "Epoch 2/2 - 10/10 - 0s - 50ms/step - accuracy: 0.9903 - loss: 0.0308\n" in out


def test_a_terminal_alone_gets_a_spinner(capsys, monkeypatch):
    be_a_terminal(monkeypatch)
    with spinner("Loading"), spinner("Loading", quiet=True):
        pass
    assert capsys.readouterr().out.count("Loading") == 1
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    with spinner("Loading"):
        pass
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("columns", "means"), [(30, ""), (40, " - acc"), (80, " - loss: 0.0308")])
def test_a_narrow_terminal_keeps_the_bar(monkeypatch, columns, means):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    progress = Progress(10)
    progress.on_chunk({"epoch": 3, "step": 469, "steps": 938, "seconds": 0.1, **ROW})
    console = Console(file=io.StringIO(), width=columns, force_terminal=True, color_system=None)
    console.print(progress._bar.get_renderable())
    (line,) = console.file.getvalue().splitlines()
    assert line.startswith("Epoch 3/10 ━━━━━ ")
    assert "469/938" in line
    assert means in line


def test_quiet_is_quiet(capsys):
    show(Progress(2, quiet=True))
    assert capsys.readouterr().out == ""
