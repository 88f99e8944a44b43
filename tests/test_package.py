"""The package as a whole: its imports, doors and public names, its wheel, and its safety."""

import ast
import itertools
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import jaxconv
from tests.support import EXPERIMENTS, ROOT

PACKAGE = ROOT / "jaxconv"
ROOMS = sorted(door.parent.name for door in PACKAGE.glob("*/__init__.py"))
IMPORTS = """
import sys
import flax, jax, jaxtyping, numpy, optax
def loaded():
    return {name.partition(".")[0] for name in sys.modules}
before = loaded()
import jaxconv
print(*sorted(loaded() - before - sys.stdlib_module_names))
"""


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported_rooms(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("jaxconv."))


def test_the_import_loads_the_core_alone():
    """No tyro, matplotlib, safetensors, grain, h5py, SciPy or TFDS, nor anything else."""
    run = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True, cwd=ROOT
    )
    # wadler_lindig belongs to jaxtyping, which loads it with its first shape.
    assert set(run.stdout.split()) <= {"jaxconv", "wadler_lindig"}


def test_the_readme_and_the_pages_name_every_public_name():
    public = {name for name in dir(jaxconv) if not name.startswith("_")} - {"jaxtyping"}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(page.read_text() for page in pages)
    assert [name for name in sorted(public - {*ROOMS}) if f"`{name}`" not in text] == []


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_a_door_exports_its_names_explicitly(room):
    door = parsed(PACKAGE / room / "__init__.py")
    uses = {node.id for node in ast.walk(door) if isinstance(node, ast.Name)}
    for node in door.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:  # `x as x`, unless the door's own functions use x
                own = (alias.asname or alias.name) in uses
                assert alias.asname == alias.name or own, ast.unparse(node)


@pytest.mark.parametrize("room", ROOMS)
def test_a_door_names_the_rooms_that_its_room_imports(room):
    text = ast.get_docstring(parsed(PACKAGE / room / "__init__.py")) or ""
    (sentence,) = re.findall(r"The room may import [^.]*\.", text)
    allowed = {*ROOMS} if "every other room" in sentence else set(re.findall(r"`(\w+)`", sentence))
    for path in (PACKAGE / room).rglob("*.py"):
        assert {*imported_rooms(parsed(path))} <= allowed | {room, "_checks"}, path


def test_every_experiment_gives_its_command():
    for path in EXPERIMENTS.rglob("*.py"):
        assert (docstring := ast.get_docstring(parsed(path))), f"{path} has no docstring"
        if path.parent == EXPERIMENTS and path.name != "__init__.py":
            assert "python experiments/" in docstring, f"{path} does not give its command"


def test_help_texts_are_sentences():
    for path in [*PACKAGE.rglob("*.py"), *EXPERIMENTS.rglob("*.py")]:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.keyword) and node.arg == "help":
                text = ast.unparse(node.value)
                assert re.fullmatch(r"f?(['\"])[A-Z].*\.\1", text), f"{path}: {text}"
    settings = [PACKAGE / "runs" / "config.py", EXPERIMENTS / "strided.py"]
    for part in (x for path in settings for x in parsed(path).body if isinstance(x, ast.ClassDef)):
        for field, text in itertools.pairwise(part.body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):  # tyro shows it
                shown = ast.unparse(text)  # in one line: it would keep the line break
                assert re.fullmatch(r"(['\"]+)[A-Z].*\.\1", shown), shown


def test_messages_name_no_script_that_the_wheel_lacks():
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    for path in PACKAGE.rglob("*.py"):
        nodes = [*ast.walk(parsed(path))]
        docstrings = [ast.get_docstring(x, clean=False) for x in nodes if isinstance(x, kinds)]
        for node in nodes:
            if isinstance(node, ast.Constant) and node.value not in docstrings:
                assert "experiments/" not in str(node.value), f"{path}: {node.value}"


@pytest.mark.slow
def test_the_wheel_contains_the_code_the_data_the_licences_and_the_types(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*command, "."], check=True, cwd=ROOT, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {*archive.namelist()}
        bundled = archive.read("jaxconv/_data/mnist.npz")
    assert bundled == (PACKAGE / "_data" / "mnist.npz").read_bytes()
    assert {"jaxconv/py.typed", "jaxconv/_data/README.md"} <= names
    assert {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert wheel.name.startswith(f"jaxconv-{jaxconv.__version__}-")
    assert not any(name.startswith(("tests/", "experiments/")) for name in names)


def test_no_code_executes_the_contents_of_a_file():
    """There is no pickle in any form, not even in NumPy's files, and no eval."""
    for path in [*PACKAGE.rglob("*.py"), *EXPERIMENTS.rglob("*.py")]:
        for node in ast.walk(parsed(path)):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            names.append(getattr(node, "module", None) or "")
            banned = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
            assert not banned & {name.partition(".")[0] for name in names}, path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec"), path
                assert not re.search("allow_pickle=(?!False)", ast.unparse(node)), path
