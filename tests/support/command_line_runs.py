"""Runs command lines in this process."""

import importlib
import runpy
import sys
from pathlib import Path
from unittest import mock

import pytest

from jaxconv import runs


def run_cli(monkeypatch, capsys, net: str, *arguments: str) -> tuple[int, str]:
    """Returns the exit code and all that the run printed."""
    module = importlib.import_module(f"experiments.{net}")
    monkeypatch.setattr(sys, "argv", [f"{net}.py", *arguments])
    code: object = 0
    try:
        runs.cli(getattr(module, "CONFIG", None) or module.Config, module.main, module.__doc__)
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert isinstance(code, int)
    return code, out + err


def script_help(path: Path, capsys) -> str:
    """What a script prints for `--help`."""
    with mock.patch.object(sys, "argv", [str(path), "--help"]), pytest.raises(SystemExit) as stop:
        runpy.run_path(str(path), run_name="__main__")
    assert stop.value.code == 0
    return capsys.readouterr().out
