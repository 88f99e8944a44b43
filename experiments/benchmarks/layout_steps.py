"""Takes the steps that `layouts.py` compares, on the layout that this process belongs to.

`layouts.py` starts it, for each net and layout.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxconv
from jaxconv import parallel
from jaxconv.runs import read_arrays, write_arrays

BATCH, STEPS = 61, 20
"""61 samples, a prime number, divide among no number of devices."""


def arrays_of(state: jaxconv.TrainState) -> dict[str, np.ndarray]:
    """The arrays of a state on the host, without its key, by name."""
    leaves = jax.tree_util.tree_flatten_with_path(state._replace(rng=()))[0]
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}


def with_arrays(state: jaxconv.TrainState, arrays: dict[str, np.ndarray]) -> jaxconv.TrainState:
    """The state with these arrays and its own key."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(state._replace(rng=()))
    values = [arrays[jax.tree_util.keystr(path)] for path, _ in leaves]
    return jax.tree.unflatten(structure, values)._replace(rng=state.rng)


def main(net: str, equal: str, output: str) -> None:
    parallel.initialize()
    jax.config.update("jax_enable_x64", True)
    from experiments.benchmarks.recipes import net_of

    mesh, results = parallel.data_mesh(), {}
    train = jaxconv.load_dataset("mnist").train.batch()
    data = {name: x[: STEPS * BATCH] for name, x in train.items()}
    for dtype in ("float32", "float64"):
        alone = net_of(net, dtype=dtype, param_dtype=dtype)
        state = alone.init(jax.random.key(0), (28, 28, 1))
        divided = alone._replace(train_step=parallel.data_parallel(alone.train_step, mesh))
        if dtype == "float32":
            # The first layout trains a little, so that no moment of the optimizer is zero.
            if not Path(equal).exists():
                state, _ = jaxconv.fit(alone, state, data, epochs=1, batch_size=BATCH)
                write_arrays(Path(equal), arrays_of(state))
            state = parallel.replicate(with_arrays(state, read_arrays(Path(equal))), mesh)
            batch = {name: x[-BATCH:] for name, x in train.items()}
            batch = parallel.global_batch(_own(batch, mesh), BATCH, mesh)
            state, sums = jax.jit(divided.train_step)(state, batch)
            assert int(sums["count"]) == BATCH
        else:
            everywhere: Any = parallel.replicate(data, mesh, same=True)
            state = parallel.replicate(state, mesh)
            state, history = jaxconv.fit(divided, state, everywhere, epochs=1, batch_size=BATCH)
            assert int(state.step) == STEPS
            results["float64 loss"] = np.array(history[0]["loss"])
        results |= {
            f"{dtype} {name}": x for name, x in arrays_of(parallel.unreplicate(state)).items()
        }
    if parallel.is_first():
        write_arrays(Path(output), results)


def _own(batch: dict[str, np.ndarray], mesh: Any) -> dict[str, np.ndarray]:
    rows = parallel.process_rows(BATCH, mesh)
    return {name: x[rows.start : rows.stop] for name, x in batch.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
