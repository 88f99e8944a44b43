"""Bad input on the command line: a short error, nothing written."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxconv
from jaxconv.data.arrays import Dataset
from jaxconv.runs import prepare
from tests.support import EXPERIMENTS
from tests.support.command_line_runs import run_cli

HUGE = "1" + "0" * 30
SHAPE = (28, 28, 1)


def name_case(part):
    if isinstance(part, list):
        return " ".join(part)[:40] or "-"
    return part[:40] if isinstance(part, str) else "-"


COMMAND_LINES = [  # what `Plan.of` alone refuses is in test_plan.py
    (["--epochs", "0"], "epochs must be a positive integer, not 0"),
    (["--epochs", "1.5"], r"invalid literal for int\(\)|1\.5"),
    (["--epochs", ""], "--epochs"),
    (["--epochs"], "--epochs"),
    (["--epoch", "3"], "--epochs"),
    (["lab6"], "lab6"),
    (["--learning-rate", "fast"], "fast"),
    (["--strategy", "pmap"], "vmap"),
    (["--save-every", "often"], "often"),
    (["--dataset", "mnits"], r"Unknown data set 'mnits' \(did you mean 'mnist'\?\)"),
    (["--dataset", ""], "Unknown data set ''.*mnist, tfds:NAME"),
    (
        ["--dataset", "tfds:mnist", "--data-dir", "nowhere"],
        "tfds.prepare.'mnist', data_dir='nowhere'.",
    ),
    (["--data-dir", "nowhere"], "data_dir='nowhere' is for"),
    (["--validation-split", "1"], r"must be in \[0, 1\), not 1.0"),
    (["--validation-split", "nan"], r"must be in \[0, 1\), not nan"),
    (["--validation-split", "0.99999"], "leaves 0 of 60000 samples to train and 60000"),
    (["--seed", "1" * 5000], r"1111\.\.\. has a number of 5000 digits: take a smaller"),
    (["--seeds", "3," + "1" * 5000], r"3,11+\.\.\. has a number of 5000 digits: take a smaller"),
    (["--padding", "full"], "padding is 'valid', 'same'.* not 'full'"),
    (["--padding", "-1"], "Layer 'conv1': padding is 'valid', 'same'.* not -1"),
    (
        ["--padding", "100000000"],
        "'conv1': padding 100000000 makes images of 200000028×200000028",
    ),
    (["--resume"], "There is no run to resume: no folder runs/lab6-0-N"),
    (["--output-dir", "/dev/null/x"], "/dev/null/x cannot be written .*: name another --output"),
    (["--output-dir", "/proc/none/x"], "/proc/none/x cannot be written .*: name another"),
    (["--init-from", ""], "a run's folder, its model.safetensors, .* or NAME.keras, not ''"),
    (["--init-from", "lost.keras"], "There is no file lost.keras"),
    (["--init-from", "x.npz"], "NAME.weights.h5 or NAME.keras, not 'x.npz'"),
    (["--init-from", "."], "There is no model.safetensors: name the folder of a run"),
    (["--export-keras", ""], "from NAME.weights.h5, not from '': change the name"),
    (["--export-keras", "x.h5"], "from NAME.weights.h5, not from 'x.h5': change the name"),
    (["--export-keras", "/dev/null/x.weights.h5"], "/dev/null is not a folder"),
]


@pytest.mark.parametrize(("arguments", "message"), COMMAND_LINES, ids=name_case)
@pytest.mark.usefixtures("untyped")
def test_a_command_line_ends_with_a_message_and_code_2(
    arguments, message, monkeypatch, capsys, tmp_path, mnist
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jaxconv.data, "bundled_mnist", lambda: mnist)  # read once
    code, text = run_cli(monkeypatch, capsys, "lab6", *arguments)
    assert code == 2
    assert re.search(message, text.replace("\n", " ")), text
    assert len(text.splitlines()) < 20
    assert list(tmp_path.iterdir()) == []


FILES = {
    "text.weights.h5": b"text",
    "empty.weights.h5": b"",
    "cut.weights.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "pickle.weights.h5": pickle.dumps([1]),
    "text.keras": b"text",
    "cut.keras": b"PK\x03\x04" + bytes(50),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.usefixtures("few_digits", "no_pictures")
def test_a_damaged_file_ends_with_a_message_and_stays(name, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(FILES[name])
    code, text = run_cli(monkeypatch, capsys, "dense", "--init-from", name)
    assert code == 2
    assert f"error: {name} cannot be read" in text
    assert Path(name).read_bytes() == FILES[name]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.usefixtures("few_digits", "no_pictures")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--batch-size", HUGE, "--save-every", HUGE, "--keep", HUGE, "--epochs", "1"],
        ["--seeds", "2", "--group", HUGE, "--resume", "--output-dir", "new"],
        ["--seed", str(2**32 - 1), "--learning-rate", "1e-38", "--overwrite", "--output-dir", "x"],
        *(
            pytest.param(arguments, marks=pytest.mark.slow)
            for arguments in (
                ["--batch-size", "1"],
                ["--save-every", "1", "--keep", "1"],
                ["--seeds", "7,"],
                ["--padding", "SAME"],
                ["--validation-split", "0.99"],
                ["--dataset", "mnist"],
            )
        ),
    ],
    ids=name_case,
)
def test_odd_but_legal_settings_work(arguments, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    net = "strided" if "--padding" in arguments else "dense"
    code, text = run_cli(monkeypatch, capsys, net, "--epochs", "1", "--quiet", *arguments)
    assert code == 0, text
    assert "Test accuracy: " in text


@pytest.mark.filterwarnings("ignore:All 1 train labels are 3")
def test_a_data_set_of_one_sample_trains(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    image, label = np.zeros((1, *SHAPE), np.uint8), np.array([3])
    one = Dataset.from_arrays(image, label, image, label, num_classes=10, name="one")
    monkeypatch.setattr(prepare, "load_dataset", lambda *_, **__: one)
    for net in ("dense", "strided"):
        code, text = run_cli(monkeypatch, capsys, net, "--epochs", "2", "--quiet")
        assert code == 0, text


@pytest.mark.parametrize(
    ("net", "size", "layer"),
    [
        ("lab6", 9, "Layer 'pool2'"),
        ("lab6", 5, "Layer 'conv2'"),
        ("intro", 2, "Layer 'conv1'"),
        ("strided", 6, "Layer 'conv2'"),
        ("dropout", 4, "Layer 'conv2'"),
    ],
)
def test_images_too_small_end_with_the_layer(net, size, layer, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    image, label = np.zeros((4, size, size, 1), np.uint8), np.array([0, 1, 2, 3])
    small = Dataset.from_arrays(image, label, image, label, name="small")
    monkeypatch.setattr(prepare, "load_dataset", lambda *_, **__: small)
    code, text = run_cli(monkeypatch, capsys, net)
    assert code == 2
    assert layer in text
    assert "does not fit into" in text
    assert "use larger images, fewer layers or padding 'same'" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("compare", ["lab7", "lab6"], r"Unknown experiment 'lab7' \(did you mean 'lab6'\?\)"),
        ("sweep", ["--net", "strieded"], "strided"),
        ("prepare_tfds", ["--data-dir", ""], "data_dir|data-dir"),
    ],
)
def test_scripts_refuse_unknown_names(script, arguments, message, tmp_path):
    """Each in a process of its own, from an empty folder."""
    path = EXPERIMENTS / f"{script}.py"
    run = subprocess.run(
        [sys.executable, str(path), *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert run.returncode == 2, run.stderr
    assert re.search(message, run.stdout + run.stderr)
    assert "Traceback" not in run.stderr
    assert list(tmp_path.iterdir()) == []
