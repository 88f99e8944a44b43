"""Helpers that several tests share: oracles, made data sets, small runs, and paths."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""
EXPERIMENTS = ROOT / "experiments"
SMALL_RUN = Path(__file__).with_name("small_run.py")
