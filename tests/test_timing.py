import subprocess
import sys
import time

import jax
import jax.numpy as jnp

from jaxconv import timing
from jaxconv.timing import CompileWatch, environment


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


def test_a_stopwatch_keeps_compilation_apart(monkeypatch):
    clock = iter([100.0, 107.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    with timing.Stopwatch() as watch:
        watch._compile._record("/jax/core/compile/backend_compile_duration", 1.0, 3.0)
    assert (watch.seconds, watch.compile_seconds) == (5.0, 2.0)


def test_the_age_of_the_process_counts_from_its_start():
    script = (
        "import time; time.sleep(0.3); from jaxconv import timing as t; print(t.process_seconds())"
    )
    began = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 0.3 <= float(run.stdout) <= time.perf_counter() - began


def test_the_environment_is_named():
    facts = environment()
    assert facts["jax_version"] == jax.__version__
    assert facts["backend"] == jax.default_backend()
    assert facts["device_count"] == jax.device_count()
