import os
from pathlib import Path

import pytest

from experiments.benchmarks import subprocess_runner
from tests.support import ROOT


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a script whose source is given."""
    monkeypatch.setattr(subprocess_runner, "HERE", tmp_path)

    def run(source: str, *arguments: str, **options) -> dict:
        (tmp_path / "script.py").write_text(source)
        return subprocess_runner.run_script("script.py", arguments, {"OURS": "yes"}, **options)

    return run


def test_the_last_line_is_the_result_whatever_comes_before(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    source = (
        "import json, os, sys; print('a warning'); "
        "print(json.dumps({'a': sys.argv[1:], 'b': os.environ['OURS'], 'c': sys.path}))"
    )
    result = run(source, "x", "y")
    assert (result["a"], result["b"]) == (["x", "y"], "yes")
    assert result["c"][:3] == [str(tmp_path), str(ROOT), "/theirs"]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        (
            "import jax; jax.jit(lambda x: x @ x)(jax.numpy.ones((2, 3)))",
            "TypeError: dot_general requires contracting dimensions",
        ),
        ("raise MemoryError('first line\\nand a second')", "MemoryError: first line"),
        ("import sys; sys.exit('bad input')", "bad input"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("pass", "it printed no result"),
        ("print('no json')", "it printed no result"),
        ("print(3)", "it printed no result"),
    ],
)
def test_a_failure_gives_its_reason(source, error, run):
    assert run(source)["error"].startswith(error)


def test_a_process_that_does_not_end_is_killed(run):
    assert run("import time; time.sleep(60)", timeout=0.5) == {"error": "not done after 0.5 s"}


def test_the_variables_that_matter_are_kept(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--x")
    private = ("SECRET", "TF_CLI_CONFIG_FILE", "JAX_COMPILATION_CACHE_DIR", "KERAS_HOME")
    for name in private:
        monkeypatch.setenv(name, "/a/path")
    kept = subprocess_runner.variables()
    assert kept["XLA_FLAGS"] == "--x"
    assert not set(private) & kept.keys()
    assert {name: os.environ[name] for name in kept} == kept


def test_a_new_result_has_a_name_and_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess_runner, "RESULTS", tmp_path)
    path = subprocess_runner.new_output(None, "bench-step", "20260102")
    assert path == tmp_path / "bench-step-20260102.json"
    path = subprocess_runner.new_output(tmp_path / "a" / "x.json", "bench-step", "")
    assert path.parent.is_dir()
    path.write_text("{}")
    with pytest.raises(FileExistsError, match=r"x.json is there already: name another --output"):
        subprocess_runner.new_output(path, "bench-step", "")
    with pytest.raises(ValueError, match=r"output must be a NAME.json, not 'x.png'"):
        subprocess_runner.new_output(Path("x.png"), "bench-step", "")
