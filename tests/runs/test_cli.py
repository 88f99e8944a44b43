import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest

from jaxconv.runs import prepare
from jaxconv.runs.cli import exit_codes
from jaxconv.runs.progress import Progress
from tests.support import EXPERIMENTS, ROOT, SMALL_RUN
from tests.support.command_line_runs import run_cli


@pytest.mark.usefixtures("few_digits")
def test_a_named_folder_is_not_overwritten_unasked(monkeypatch, capsys, tmp_path):
    common = ["--epochs", "1", "--quiet", "--output-dir", str(tmp_path / "x")]
    code, text = run_cli(monkeypatch, capsys, "dense", *common)
    assert code == 0
    assert re.fullmatch(r"Test loss: [\d.]+\nTest accuracy: [\d.]+\nRun: .*/x\n", text)
    before = (tmp_path / "x" / "result.json").read_text()
    code, text = run_cli(monkeypatch, capsys, "dense", *common)
    assert code == 2
    assert "--overwrite" in text
    assert (tmp_path / "x" / "result.json").read_text() == before
    assert run_cli(monkeypatch, capsys, "dense", *common, "--overwrite")[0] == 0


@pytest.mark.parametrize("missing", [("tyro",), ("matplotlib", "rich")])
def test_missing_packages_are_named_with_the_line_that_installs_them(
    missing, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    code, text = run_cli(monkeypatch, capsys, "dense")
    assert code == 2
    names = ", ".join(missing)
    assert f"Not installed: {names}. Install with: pip install 'jaxconv[run]' (in a" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("few_digits")
def test_a_package_that_only_the_end_needs_is_missed_at_once(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    code, text = run_cli(monkeypatch, capsys, "dense", "--export-keras", "x.weights.h5")
    assert code == 2
    assert "Not installed: h5py. Install with: pip install 'jaxconv[keras]'" in text
    assert list(tmp_path.iterdir()) == []


def test_help_reads_well():
    command = [sys.executable, str(EXPERIMENTS / "dropout.py"), "--help"]
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "100"}
    )
    assert "notebook 004" in run.stdout
    for option in (
        "epochs", "batch-size", "learning-rate", "seed", "dataset", "data-dir", "validation-split",
        "padding", "init-from", "export-keras", "output-dir", "no-compilation-cache", "quiet",
    ):  # fmt: skip
        assert f"--{option} " in run.stdout
    assert "The number of epochs to train. (default: 15)" in run.stdout
    options = re.findall(r"^│ --([a-z-]+)", run.stdout, re.MULTILINE)
    assert options[:4] == ["epochs", "batch-size", "learning-rate", "schedule"]
    groups = re.findall(r"^╭─ (\w+) options ─", run.stdout, re.MULTILINE)
    assert groups == ["training", "seeds", "data", "augmentation", "model", "run", "parallel"]
    cache = run.stdout.split("--no-compilation-cache")[1]
    assert "Compile every program anew." in cache.split("--quiet")[0]


def test_an_experiment_has_the_options_of_its_net(monkeypatch, capsys):
    for net, option, known in (
        ("strided", "--activation", True),
        ("lab6", "--activation", False),
        ("lab6", "--padding", True),
        ("dense", "--padding", False),
    ):
        code, text = run_cli(monkeypatch, capsys, net, option, "same", "--epochs", "0")
        assert code == 2
        assert ("epochs must be a positive integer" in text) is known, (net, option)


@pytest.mark.parametrize(
    "command",
    [
        [SMALL_RUN, "dense", "--help"],
        [SMALL_RUN, "dense", "--epochs", "1", "--quiet"],
        [EXPERIMENTS / "report.py", "--help"],  # so short that Python flushes it at its end
    ],
)
def test_a_closed_stdout_ends_quietly(command, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA of JAX 0.9 logs what the cache gives it
    command = [sys.executable, *map(str, command)]
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(write)
    assert process.returncode == 141
    assert process.stderr == ""


def test_a_stdout_that_was_closed_before_the_start_prints_nowhere(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with Progress(1) as progress:  # in your own code
        progress.on_chunk({"epoch": 1, "step": 1, "steps": 1})
    with exit_codes():
        print("nowhere", flush=True)
    assert sys.stdout.name == os.devnull
    sys.stdout.close()


@pytest.mark.parametrize("epochs_first", [0, 2])
def test_ctrl_c_ends_cleanly_and_keeps_what_was_written(tmp_path, epochs_first, request):
    """On a real terminal, so that the live bar is put away as well; also while XLA compiles."""
    master, slave = pty.openpty()
    command = [sys.executable, str(SMALL_RUN), "dense", "--epochs", "100000"]
    command += ["--no-compilation-cache"]
    command += ["--output-dir", str(tmp_path / "run")]
    # SIGINT may be ignored here, as in background jobs; children would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stdout=slave, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, before)
    request.addfinalizer(process.kill)
    os.close(slave)
    os.set_blocking(master, False)
    config, rows = tmp_path / "run" / "config.json", tmp_path / "run" / "metrics.jsonl"
    output, deadline = b"", time.monotonic() + 120

    def wait_until(reached) -> None:
        nonlocal output
        while not reached():
            assert time.monotonic() < deadline
            output += _drain(master)
            time.sleep(0.02)

    wait_until(
        lambda: (
            config.exists()
            and (
                epochs_first == 0
                or (rows.exists() and rows.read_text().count("\n") >= epochs_first)
            )
        )
    )
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    wait_until(lambda: process.poll() is not None)
    output += _drain(master)
    assert process.returncode == 130
    assert process.stderr is not None
    printed = process.stderr.read().decode().strip()
    assert printed == "SIGINT: saving first (again: at once)" or (not epochs_first and not printed)
    process.stderr.close()
    os.close(master)
    text = output.decode()
    if epochs_first == 0:
        assert "Interrupted before the first epoch ended" in text
        assert not rows.exists()
    else:
        assert "Epoch 1/100000" in text
        assert "━" in text
        assert "Interrupted. The finished epochs are in" in text
        assert f"and add --resume --output-dir {tmp_path / 'run'}" in text
        kept = [json.loads(line) for line in rows.read_text().splitlines()]
        assert [row["epoch"] for row in kept] == list(range(1, len(kept) + 1))
    assert not (tmp_path / "run" / "result.json").exists()


def _drain(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 20)
    except (BlockingIOError, OSError):
        return b""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FloatingPointError("nan"), 1),
        (ValueError("bad"), 2),
        (OSError("bad"), 2),
        (MemoryError(), 2),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), 2),
    ],
)
def test_every_end_has_its_exit_code(error, code, capsys):
    with pytest.raises(SystemExit) as stop, exit_codes():
        raise error
    assert stop.value.code == code
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("name", "value", "frames", "last"),
    [
        ("JAX_PLATFORMS", "x", 0, "error: JAX has no device here for JAX_PLATFORMS='x' "),
        ("JAX_NUM_CPU_DEVICES", "x", 2, 'ValueError: Invalid value "x" for JAX flag jax_num_cpu_'),
    ],
)
def test_a_variable_that_jax_refuses_is_named_without_its_traceback(name, value, frames, last):
    code = "from jaxconv.runs import exit_codes\nimport jax\nwith exit_codes(): jax.devices('cpu')"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, name: value},
        cwd=ROOT,
    )
    printed = run.stderr.splitlines()
    assert run.stderr.count('  File "') == frames, run.stderr
    assert len(printed) <= 1 + 3 * frames, run.stderr  # Python 3.13 shows the code of -c as well
    assert printed[-1].startswith(last)


def test_signals_end_the_process_with_theirs():
    code = (
        "import os\n"
        "from jaxconv.runs.cli import exit_codes; from jaxconv.runs.signals import *\n"
        "for interrupt in (KeyboardInterrupt, Terminated, HungUp):\n"
        "    if os.fork() == 0:\n"
        "        with exit_codes(): raise interrupt\n"
        "    print(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["130", "143", "129"]
    assert "Traceback" not in run.stderr


def test_an_error_of_the_program_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="a fault"), exit_codes():
        raise RuntimeError("a fault")


def test_the_options_of_a_folder_reach_its_reader(monkeypatch, capsys, tmp_path):
    def read(name, **options):
        raise ValueError(f"{name} {sorted(options.items())}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepare, "load_dataset", read)
    options = ["--dataset", "folder:x", "--image-size", "8,9", "--test-split", "0.5"]
    code, text = run_cli(monkeypatch, capsys, "dense", *options)
    assert code == 2
    assert "x [('data_dir', None), ('image_size', (8, 9)), ('test_split', 0.5)]" in text
