"""Fixtures of the tests of runs."""

import signal

import pytest

from jaxconv.runs import experiment
from tests.support.checkpoints import new_state, save_two
from tests.support.run_folders import run


@pytest.fixture
def state():
    return new_state()


@pytest.fixture
def saved(tmp_path, digits):
    """Two checkpoints, of epochs 1 and 2, and the states in them."""
    return tmp_path / "saves", save_two(tmp_path / "saves", digits.train)


@pytest.fixture
def interrupted(monkeypatch):
    """Runs with a real signal after so many chunks."""

    def start(chunks, number, *arguments, **settings):
        left = [chunks]

        class Progress(experiment.Progress):
            def on_chunk(self, row):
                super().on_chunk(row)
                left[0] -= 1
                if not left[0]:
                    signal.raise_signal(number)

        with monkeypatch.context() as patch:
            patch.setattr(experiment, "Progress", Progress)
            with pytest.raises(KeyboardInterrupt) as caught:
                run(*arguments, **settings)
        return caught.type

    return start
