from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv.measure import timing
from jaxconv.measure.compilation_cache import persistent_cache
from jaxconv.measure.timing import CompileWatch


def test_only_compilations_inside_the_block_count():
    double = jax.jit(lambda x: 2 * x)
    x, y = jnp.ones(3), jnp.ones(4)
    with CompileWatch() as watch:
        double(x)
        double(x)
        double(y)
    double(jnp.ones(5))
    assert watch.compilations == 2
    assert watch.seconds > 0


def test_nested_traces_count_once():
    watch = CompileWatch()
    for span in ((0.0, 10.0), (2.0, 3.0), (9.0, 12.0), (20.0, 21.0)):
        watch._record("/jax/core/compile/jaxpr_trace_duration", *span)
    watch._record("/jax/something/else", 100.0, 200.0)
    assert watch.seconds == 13.0


def test_a_stopwatch_keeps_compilation_apart(monkeypatch):
    clock = iter([100.0, 107.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    with timing.Stopwatch() as watch:
        watch._compile._record("/jax/core/compile/backend_compile_duration", 1.0, 3.0)
    assert (watch.seconds, watch.compile_seconds) == (5.0, 2.0)


class Clock:
    """A clock that moves only when a run moves it."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)


def test_the_steady_state_leaves_out_the_warm_up(monkeypatch):
    clock, calls = Clock(monkeypatch), []

    def run(steps: int) -> list:
        cost = 5.0 if len(calls) < 3 else 0.5
        calls.append(steps)
        clock.now += cost * steps
        return []

    steady = timing.steady_state(run, seconds=20.0, warm_up_seconds=12.0)
    assert calls == [1] * (3 + 40)
    assert steady == timing.Steady((0.5,) * 40, 1)
    assert steady.median == steady.p95 == 0.5


def test_short_steps_are_timed_in_blocks(monkeypatch):
    clock, calls = Clock(monkeypatch), []

    def run(steps: int) -> list:
        calls.append(steps)
        clock.now += 0.5 + 0.25 * steps  # half a second to wait for the device
        return []

    options = {"seconds": 0.0, "block_seconds": 30.0, "warm_up_seconds": 0.0}
    steady = timing.steady_state(run, **options)
    assert steady.steps == calls[-1] == 118  # 30 s at the pace of the third call, of 115
    assert len(steady.samples) == 10
    assert steady.median == pytest.approx(0.25 + 0.5 / 118)
    assert timing.steady_state(run, **options, max_steps=7).steps == 7


def test_every_sample_waits_for_the_device(monkeypatch):
    waited = []
    monkeypatch.setattr(timing.jax, "block_until_ready", waited.append)
    timing.steady_state(lambda steps: steps, seconds=0.0, warm_up_seconds=0.0)
    assert len(waited) == 13


def test_the_95th_percentile_equals_numpys():
    samples = tuple(np.random.default_rng(0).exponential(size=57).tolist())
    steady = timing.Steady(samples, 1)
    assert steady.p95 == pytest.approx(np.percentile(samples, 95), rel=1e-12)
    assert steady.median == pytest.approx(np.median(samples), rel=1e-12)
    assert timing.Steady((3.0,), 1).p95 == 3.0


def test_the_stages_are_timed_one_after_the_other(monkeypatch):
    x, ticks = jnp.ones((3, 3)), iter([0.0, 1.0, 3.0, 7.0])
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    with CompileWatch() as watch:
        compiled, seconds = timing.compile_stages(jax.jit(lambda x: jnp.sin(x) @ x), x)
        np.testing.assert_allclose(compiled(x), np.full((3, 3), 3 * np.sin(1.0)), 1e-6)
    assert watch.compilations == 1
    assert seconds == {"trace": 1.0, "lower": 2.0, "compile": 4.0}


def test_the_matmul_rate_is_two_flops_a_multiply_add(monkeypatch):
    monkeypatch.setattr(timing, "steady_state", lambda *_, **__: timing.Steady((0.5,), 1))
    assert timing.matmul_rate("bfloat16", 10) == 2 * 10**3 / 0.5


def test_programs_from_the_persistent_cache_are_counted(tmp_path):
    def watch_compilation() -> CompileWatch:
        x = jnp.ones(7)
        with persistent_cache(str(tmp_path)), CompileWatch() as watch:
            jax.jit(lambda x: 3 * x + 1)(x)
        return watch

    cold, warm = watch_compilation(), watch_compilation()
    assert (cold.compilations, cold.cached) == (1, 0)
    assert (warm.compilations, warm.cached) == (1, 1)
