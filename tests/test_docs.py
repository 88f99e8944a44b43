"""The README is run: its Python blocks as they stand, its commands against what there is."""

import contextlib
import io
import re
import subprocess
import sys

import pytest

from tests.support import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_its_code_runs_and_prints_what_it_says(block, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    expected = re.findall(r"# prints (.*)", block)
    assert printed.getvalue().splitlines() == expected


def test_it_shows_fifteen_lines_that_use_the_step_alone():
    (block,) = (block for block in BLOCKS if "jax.vmap" in block)
    assert "jax.lax.scan(step" in block
    assert len([line for line in block.splitlines() if line.strip()]) <= 17


def test_the_files_it_names_exist():
    for name in set(re.findall(r"\]\(((?!http)[^)#]+)\)|`(experiments/[\w/.]+)`", README)):
        path = next(part for part in name if part)
        assert (ROOT / path).exists(), path


def test_the_make_targets_it_names_exist():
    targets = subprocess.run(
        ["make", "help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    for target in set(re.findall(r"make ([a-z][a-z-]*)", README)) - {"sure"}:
        assert re.search(rf"^{target}\s", targets, re.M), target


def test_the_options_it_names_exist():
    scripts = set(re.findall(r"python (experiments/\w+\.py)([^\n`]*)", README))
    for script, arguments in scripts:
        helped = subprocess.run(
            [sys.executable, script, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
        for option in re.findall(r"--[a-z-]+", arguments):
            assert option in helped, f"{script} {option}"
