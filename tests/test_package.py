import ast
import re
import subprocess
import sys
import zipfile

import pytest

import jaxconv
from tests.support import ROOT

IMPORTS = """
import sys
import flax, jax, jaxtyping, numpy, optax
def loaded():
    return {name.partition(".")[0] for name in sys.modules}
before = loaded()
import jaxconv
print(*sorted(loaded() - before))
"""


def test_the_import_loads_the_core_alone():
    run = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True, cwd=ROOT
    )
    # wadler_lindig is jaxtyping's own, loaded with its first shape.
    assert set(run.stdout.split()) <= {"jaxconv", "wadler_lindig"}


def test_the_public_names_are_those_of_the_readme():
    public = {name for name in dir(jaxconv) if not name.startswith("_")}
    modules = {path.stem for path in (ROOT / "jaxconv").glob("*.py")}
    readme = (ROOT / "README.md").read_text()
    missing = [name for name in public - modules - {"jaxtyping"} if f"`{name}`" not in readme]
    assert missing == []


def test_every_experiment_says_how_it_is_run():
    for path in (ROOT / "experiments").glob("*.py"):
        source = path.read_text()
        assert source.startswith('"""'), f"{path} has no docstring"
        assert "python experiments/" in source, f"{path} does not give its command"


@pytest.mark.slow
def test_the_wheel_carries_the_data_the_licences_and_the_types(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "-w",
        str(tmp_path),
        ".",
    ]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        bundled = archive.read("jaxconv/_data/mnist.npz")
    assert bundled == (ROOT / "jaxconv" / "_data" / "mnist.npz").read_bytes()
    assert {"jaxconv/py.typed", "jaxconv/_data/README.md", "jaxconv/train.py"} <= {*names}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "experiments/")) for name in names)


def test_nothing_that_executes_what_a_file_holds_is_used():
    """No pickle in any form, not in NumPy's files either, and no eval."""
    for path in [*(ROOT / "jaxconv").glob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            names.append(getattr(node, "module", None) or "")
            banned = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
            assert not banned & {name.partition(".")[0] for name in names}, path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec"), path
                assert not re.search("allow_pickle=(?!False)", ast.unparse(node)), path
