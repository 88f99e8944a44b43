"""Breaks single lines of the core at random, and looks whether the fast tests notice.

    python tests/break_lines.py --lines 20 --seed 0

A breakage is made in a copy of the checkout: another operator or comparison, a number that is one
larger, a condition turned round. The tests of the core run first; if they pass, all of them.
It takes half a minute for each breakage, and ends with 1 if one of them went unnoticed.
"""

import argparse
import ast
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support import ROOT

ROOMS = ("data", "models", "training")
OPERATORS = {"+": "-", "-": "+", "*": "+", "/": "*", "//": "*", "%": "//", "**": "*", "@": "*"}
COMPARISONS = {"==": "!=", "!=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">"}
COMPARISONS |= {"is": "is not", "is not": "is", "in": "not in", "not in": "in"}


class Breakage(NamedTuple):
    """A place of a file, and what stands there instead."""

    path: Path
    line: int
    start: int
    stop: int
    text: str

    def apply(self, source: str) -> str:
        lines = source.splitlines(keepends=True)
        line = lines[self.line - 1]
        lines[self.line - 1] = line[: self.start] + self.text + line[self.stop :]
        return "".join(lines)


def breakages(path: Path) -> Iterator[Breakage]:
    """All that can be broken in the code of a file; annotations and texts stay."""
    source = path.read_text()
    lines, tree = source.splitlines(), ast.parse(source)
    annotations = [
        part
        for node in ast.walk(tree)
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if isinstance(part, ast.AST)
    ]
    skipped = {part for annotation in annotations for part in ast.walk(annotation)}
    for node in ast.walk(tree):
        if node in skipped or getattr(node, "lineno", 0) != getattr(node, "end_lineno", -1):
            continue
        match node:
            case ast.BinOp(left=left, right=right):
                yield from _between(path, lines, left, right, OPERATORS)
            case ast.Compare(left=left, comparators=[right]):
                yield from _between(path, lines, left, right, COMPARISONS)
            case ast.BoolOp(values=[left, right]):
                yield from _between(path, lines, left, right, {"and": "or", "or": "and"})
            case ast.Constant(value=bool(value)):
                yield _instead(path, node, str(not value))
            case ast.Constant(value=int(value)):
                yield _instead(path, node, str(value + 1))
            case ast.IfExp(test=test):
                text = lines[test.lineno - 1][test.col_offset : test.end_col_offset]
                yield _instead(path, test, f"(not ({text}))")


def _instead(path: Path, node: ast.expr, text: str) -> Breakage:
    assert node.end_col_offset is not None
    return Breakage(path, node.lineno, node.col_offset, node.end_col_offset, text)


def _between(
    path: Path, lines: list[str], left: ast.expr, right: ast.expr, swaps: dict[str, str]
) -> Iterator[Breakage]:
    """Swaps the operator between two expressions of one line."""
    start, stop = left.end_col_offset, right.col_offset
    assert start is not None
    found = re.fullmatch(r"(\W*? )(\S+|is not|not in)( \W*?)", lines[left.lineno - 1][start:stop])
    if found and found[2] in swaps:
        text = found[1] + swaps[found[2]] + found[3]
        yield Breakage(path, left.lineno, start, stop, text)


def noticed(copy: Path) -> str | None:
    """The first test that fails, if one does."""
    core = [f"{folder}/{room}" for room in ROOMS for folder in ("tests", "jaxconv")]
    for where in (core, []):
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "auto", "--dist", "loadfile"]
        run = subprocess.run([*command, *where], cwd=copy, capture_output=True, text=True)
        if run.returncode:
            return next(iter(re.findall(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.M)), "pytest")
    return None


def main(lines: int, seed: int) -> int:
    """Returns how many breakages went unnoticed."""
    paths = sorted(path for room in ROOMS for path in (ROOT / "jaxconv" / room).glob("*.py"))
    places = [breakage for path in paths for breakage in breakages(path)]
    chosen, missed = random.Random(seed).sample(places, lines), 0
    print(f"{lines} of {len(places)} places, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        files = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
        for name in files:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
        for breakage in chosen:
            name, source = breakage.path.relative_to(ROOT), breakage.path.read_text()
            (copy / name).write_text(breakage.apply(source))
            test = noticed(copy)
            (copy / name).write_text(source)
            missed += test is None
            now = breakage.apply(source).splitlines()[breakage.line - 1].strip()
            print(f"{name}:{breakage.line}: {now}\n    {test or 'NOT NOTICED'}", flush=True)
    print(f"{lines - missed} of {lines} noticed")
    return missed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.exit(main(options.lines, options.seed) > 0)
