import importlib.metadata
import re
import sys
import tomllib

import numpy as np
import pytest

from jaxconv._checks import EXTRAS, check_choice, check_installed, check_positive
from tests.support import ROOT


@pytest.mark.parametrize("value", [0, -3, 1.0, True, None, "2", np.float32(2)])
def test_only_positive_integers_pass(value):
    with pytest.raises(ValueError, match="size must be a positive integer, not"):
        check_positive("size", value)


def test_integers_of_any_kind_pass():
    for value in (1, 10**12, np.int64(3), np.uint8(1)):
        assert check_positive("size", value) is None


def test_a_long_list_of_choices_is_not_spelled_out():
    with pytest.raises(ValueError, match=r"did you mean '71'\?\): 100 are known"):
        check_choice("number", "171", range(100))


def test_the_extras_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installs = importlib.metadata.packages_distributions()
    for extra, modules in EXTRAS.items():
        if extra == "export" and "jax2onnx" not in installs:
            continue  # the environment of the tests does without
        lines = project["optional-dependencies"][extra]
        names = {re.match(r"[\w-]+", line)[0].lower() for line in lines} - {"jaxconv"}
        assert {name.lower() for module in modules for name in installs[module]} == names


def test_what_is_missing_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ModuleNotFoundError, match=r"^Not installed: grain\. .*'jaxconv\[stream\]'"):
        check_installed("stream")
