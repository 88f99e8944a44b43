"""Measures one train step in a fresh process, and prints the figures as a line of JSON.

`bench_step.py` starts it, once for each case and round.
"""

import functools
import json
import sys
import time
from typing import Any

import jax
import numpy as np

import jaxconv
from experiments.benchmarks.keras_nets import SHAPE
from experiments.benchmarks.recipes import net_of
from jaxconv.data import Stream, open_streamed
from jaxconv.inspection import layer_rows, train_step_flops
from jaxconv.measure import (
    CompileWatch,
    compile_stages,
    environment,
    matmul_rate,
    peak_memory,
    persistent_cache,
    steady_state,
)
from jaxconv.models import Form, choose_form
from jaxconv.training import StreamedEpochs, stack_states, train_epoch_replicas


def measure(
    net: str,
    batch_size: int,
    dtype: str,
    driver: str,
    form: Form | None,
    replicas: int = 1,
    *,
    seconds: float,
    data_dir: str | None = None,
    workers: int = 0,
) -> dict[str, Any]:
    """Compiles and runs one case; `bench_step.py` explains the arguments."""
    if driver == "stream":
        data = open_streamed("tfds:jaxconv_mnist", data_dir=data_dir, workers=workers).train
    else:
        data = jaxconv.load_dataset("mnist").train
    own = net_of(net, dtype=dtype, form=form)
    train_step, state = own.train_step, own.init(jax.random.key(0), SHAPE)
    order = jaxconv.epoch_permutation(state.rng, 0, len(data))
    streamed, place, batches = None, 0, []
    if isinstance(data, Stream):
        streamed = StreamedEpochs(data, train_step, batch_size)
        first = data.batch(np.asarray(order), batch_size, 0)
        function, inputs = jax.jit(train_step, donate_argnums=0), (first,)
    elif driver == "step":
        whole = data.batch()
        starts = range(0, min(16 * batch_size, len(data)), batch_size)
        batches = [{k: x[i : i + batch_size] for k, x in whole.items()} for i in starts]
        batches = jax.device_put([batch for batch in batches if len(batch["label"]) == batch_size])
        function, inputs = jax.jit(train_step, donate_argnums=0), (batches[0],)
    else:
        options: Any = {"train_step": train_step, "batch_size": batch_size}
        epoch = functools.partial(jaxconv.train_epoch, **options)
        if driver != "loop":
            epoch = functools.partial(train_epoch_replicas, strategy=driver, **options)
            keys = jax.random.split(jax.random.key(0), replicas)
            state = jax.vmap(lambda key: own.init(key, SHAPE))(keys)
            order = jax.vmap(lambda key: jaxconv.epoch_permutation(key, 0, len(data)))(keys)
        function, inputs = (
            jax.jit(epoch, donate_argnums=0),
            (jax.device_put(data.batch()), order, 0, 1),
        )
    jax.block_until_ready((state, inputs))
    with persistent_cache(), CompileWatch() as watch:
        compiled, stages = compile_stages(function, state, *inputs)
    began = time.perf_counter()
    state, sums = jax.block_until_ready(compiled(state, *inputs))
    first_call = time.perf_counter() - began
    if streamed is not None:
        state, order = stack_states([state]), order[None]

    def run(steps: int) -> Any:
        nonlocal state, sums, place
        if streamed is not None:
            place = 0 if place + steps > len(data) // batch_size else place
            state, sums = streamed.take_steps(state, order, place, place + steps)
            place += steps
        elif driver != "step":
            state, sums = compiled(state, *inputs[:-1], steps)
        else:
            for i in range(steps):
                state, sums = compiled(state, batches[i % len(batches)])
        return state, sums

    # A call of the loop has a fixed cost, which an epoch pays once: let each call last.
    most, block = (None, 0.01) if driver == "step" else (len(data) // batch_size, 0.1 * replicas)
    steady = steady_state(run, seconds=seconds, block_seconds=block, max_steps=most)
    if streamed is not None:
        streamed.close()
    step_seconds, memory = steady.median / replicas, peak_memory()
    size = 2048 if jax.default_backend() == "cpu" else 8192
    matmul = matmul_rate(dtype, size)
    layers = [row.macs for row in layer_rows(jaxconv.create_model(net), SHAPE)]
    flops = train_step_flops(layers, batch_size)
    counted = compiled.cost_analysis() if driver in ("step", "stream") else None
    temporary = compiled.memory_analysis()
    return {
        "form": choose_form(form),
        **{f"{stage}_seconds": taken for stage, taken in stages.items()},
        "from_cache": watch.cached > 0,
        "first_call_seconds": first_call,
        "step_seconds": step_seconds,
        "step_seconds_p95": steady.p95 / replicas,
        "samples": len(steady.samples),
        "steps_a_sample": steady.steps,
        "images_per_second": batch_size / step_seconds,
        "nominal_flops": flops,
        "xla_flops": (counted or {}).get("flops"),
        "flops_per_second": flops / step_seconds,
        "matmul_flops_per_second": matmul,
        "matmul_size": size,
        "matmul_share": flops / step_seconds / matmul,
        "program_bytes": getattr(temporary, "temp_size_in_bytes", None),
        **memory,
        "environment": environment(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
