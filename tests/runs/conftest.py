"""Fixtures of the tests of runs."""

import pytest

from tests.support.checkpoints import new_state, save_two


@pytest.fixture
def state():
    return new_state()


@pytest.fixture
def saved(tmp_path, digits):
    """Two checkpoints, of epochs 1 and 2, and the states in them."""
    return tmp_path / "saves", save_two(tmp_path / "saves", digits.train)
