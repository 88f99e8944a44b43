"""Runs one part in this process; `processes.py` starts it with FILE OPTIONS OUTPUT.

FILE is `steps`, `accuracy`, `correctness` or `determinism`, OPTIONS the arguments of its `measure`
as JSON, OUTPUT the JSON file to write. The exit code is 1 if a row has an error.
"""

import importlib
import json
import os
import sys
from pathlib import Path

file, options, output = sys.argv[1:]
module = importlib.import_module(f"experiments.benchmarks.accelerator.{file}")
rows = module.measure(Path(output), **json.loads(options))
sys.stdout.flush()
os._exit(any("error" in row for row in rows))  # does not wait for programs that still compile
