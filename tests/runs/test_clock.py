import time

import jax
import jax.numpy as jnp
import pytest

from jaxconv.runs.clock import Clock


def test_a_part_within_another_counts_for_itself_alone():
    with Clock() as clock, clock("fit"):
        time.sleep(0.02)
        with clock("report"):
            time.sleep(0.1)
        with clock("report"):
            time.sleep(0.1)
    assert clock.seconds["report"] >= 0.2 > clock.seconds["fit"] >= 0.02
    assert clock.total >= clock.seconds["report"] + clock.seconds["fit"]


def test_compilation_is_apart_and_counted_once():
    with Clock() as clock, clock("fit"), clock("report"):
        jax.jit(lambda x: x * 11)(jnp.ones(3)).block_until_ready()
    assert 0 < clock.compile_seconds <= clock.programs.seconds + 1e-6
    assert clock.programs.compilations >= 1


def test_a_part_that_fails_is_measured_too():
    with Clock() as clock:
        with pytest.raises(ValueError, match="no"), clock("data"):
            raise ValueError("no")
        with clock("data"):
            time.sleep(0.02)
    assert clock.seconds.keys() == {"data"}
    assert clock.seconds["data"] >= 0.02
