import os

import pytest

from experiments.benchmarks import subprocess_runner


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a child whose source is given."""
    monkeypatch.setattr(subprocess_runner, "HERE", tmp_path / "experiments")
    (tmp_path / "experiments").mkdir()

    def run(source: str, *arguments: str, **options) -> dict:
        (tmp_path / "experiments" / "script.py").write_text(source)
        return subprocess_runner.run_child("script.py", arguments, {"OURS": "yes"}, **options)

    return run


def test_the_last_line_is_the_result_whatever_comes_before(run, tmp_path):
    source = (
        "import json, os, sys; print('a warning'); "
        "print(json.dumps({'a': sys.argv[1:], 'b': os.environ['OURS'], 'c': sys.path}))"
    )
    result = run(source, "x", "y")
    assert (result["a"], result["b"]) == (["x", "y"], "yes")
    assert result["c"][1:3] == [str(tmp_path / "experiments"), str(tmp_path)]


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


def test_a_child_that_does_not_end_is_ended(run):
    assert run("import time; time.sleep(60)", timeout=0.5) == {"error": "not done after 0.5 s"}


def test_the_variables_that_matter_are_told(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--x")
    untold = ("SECRET", "TF_CLI_CONFIG_FILE", "JAX_COMPILATION_CACHE_DIR", "KERAS_HOME")
    for name in untold:
        monkeypatch.setenv(name, "/a/path")
    told = subprocess_runner.variables()
    assert told["XLA_FLAGS"] == "--x"
    assert not set(untold) & told.keys()
    assert {name: os.environ[name] for name in told} == told
