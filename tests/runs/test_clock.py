import time

import jax
import jax.numpy as jnp
import pytest

from jaxconv.runs.clock import Clock


@pytest.fixture
def advance(monkeypatch):
    """A clock that stands still until the test moves it by some seconds."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


def test_a_part_within_another_counts_for_itself_alone(advance):
    with Clock() as clock:
        advance(1)
        with clock("fit"):
            advance(2)
            with clock("report"):
                advance(4)
            with clock("report"):
                advance(8)
    assert clock.seconds == {"fit": 2, "report": 12}
    assert clock.total == 15


def test_a_part_that_fails_is_measured_too(advance):
    def fail():
        advance(1)
        raise ValueError("no")

    with Clock() as clock:
        with pytest.raises(ValueError, match="no"), clock("data"):
            fail()
        with clock("data"):
            advance(2)
        with clock("init"):
            advance(4)
    assert clock.seconds == {"data": 3, "init": 4}


def test_compilation_is_counted_once_in_nested_parts():
    with Clock() as clock, clock("fit"), clock("report"):
        jax.jit(lambda x: x * 11)(jnp.ones(3)).block_until_ready()
    assert clock.compile_seconds == pytest.approx(clock.programs.seconds)
    assert clock.programs.compilations >= 1
