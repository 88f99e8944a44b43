import sys
import time

import jax
import jax.numpy as jnp

from jaxconv.timing import CompileWatch, Stopwatch, environment, process_seconds


def test_compilations_are_counted_inside_the_block_alone():
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


def test_a_stopwatch_keeps_compilation_apart():
    def slow_to_compile(x):
        for i in range(300):
            x = jnp.sin(x) * i
        return x

    began = time.perf_counter()
    with Stopwatch() as watch:
        jax.block_until_ready(jax.jit(slow_to_compile)(1.0))
    wall = time.perf_counter() - began
    assert watch.compile_seconds > watch.seconds > 0
    assert watch.compile_seconds + watch.seconds <= wall


def test_the_age_of_the_process_needs_psutil(monkeypatch):
    age = process_seconds()
    assert age is not None
    assert age > 0
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert process_seconds() is None


def test_the_environment_is_named():
    facts = environment()
    assert facts["jax_version"] == jax.__version__
    assert facts["backend"] == jax.default_backend()
    assert facts["device_count"] == jax.device_count()
