"""README and the pages under docs/: their code runs, and what they name is there."""

import contextlib
import io
import re
import subprocess
from collections import defaultdict

import pytest

from tests.support import ROOT
from tests.support.command_line_runs import script_help

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text() for path in PAGES}
BLOCKS = [
    pytest.param(block, id=f"{name}-{i}")
    for name, text in TEXTS.items()
    for i, block in enumerate(re.findall(r"```python\n(.*?)```", text, re.S))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_code_runs_and_prints_what_the_page_shows(block, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, "page", "exec"), {"__name__": "page"})
    assert printed.getvalue().splitlines() == re.findall(r"# prints (.*)", block)


def test_readme_is_one_screen():
    lines = TEXTS["README.md"].splitlines()
    assert len(lines) <= 150
    # Program output, tables and pictures cannot be broken.
    prose = re.sub(r"```.*?```|^[|!].*?$", "", TEXTS["README.md"], flags=re.S | re.M)
    assert max(map(len, prose.splitlines())) <= 100


def test_readme_shows_an_importer_some_fifteen_lines():
    (block,) = (x.values[0] for x in BLOCKS if x.id and x.id.startswith("README.md"))
    assert "jax.vmap" in block
    assert "jax.lax.scan(net.train_step" in block
    assert len([line for line in block.splitlines() if line.strip()]) <= 17


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_to_files_and_headings(name):
    for target in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", TEXTS[name]):
        path, _, heading = target.partition("#")
        found = (ROOT / name).parent / path if path else ROOT / name
        assert found.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", found.read_text(), re.M)
            anchors = [re.sub(r"[^\w\- ]", "", x.lower()).replace(" ", "-") for x in titles]
            assert heading in anchors, target


@pytest.mark.parametrize("name", TEXTS)
def test_named_files_exist(name):
    for path in re.findall(
        r"(?<![\w./])((?:experiments|tests|jaxconv|docs)/[\w/.-]*\w)", TEXTS[name]
    ):
        assert (ROOT / path).exists(), path


def test_named_make_targets_exist():
    command = ["make", "help"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    for text in TEXTS.values():
        for target in set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.M)):
            assert re.search(rf"^{target}\s", listed, re.M), target


def named_options() -> dict[str, set[str]]:
    """The options that the pages give to each script, or that follow its name in a line."""
    found = defaultdict(set)
    for text in TEXTS.values():
        for script, rest in re.findall(r"python (experiments/[\w/]+\.py)([^\n`]*)", text):
            found[script] |= set(re.findall(r"--[a-z][a-z-]*", rest))
    return {script: options for script, options in found.items() if options}


@pytest.mark.parametrize(("script", "options"), named_options().items())
def test_named_options_exist(script, options, capsys):
    shown = script_help(ROOT / script, capsys)
    assert not {option for option in options if option not in shown}
