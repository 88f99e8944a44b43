"""Saves a state that is divided among devices, or restores it on those that there are.

    JAX_NUM_CPU_DEVICES=4 python tests/runs/devices_check.py save FOLDER
    JAX_NUM_CPU_DEVICES=2 python tests/runs/devices_check.py resume FOLDER

Both print the arrays' fingerprint; the second goes on to the end of the training, and prints the
labels that it saw, in their order, and the final loss. `test_checkpoint` compares them.
"""

import json
import sys

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxconv
from jaxconv.runs.checkpoint import Checkpoints
from tests.support.oracles import bits


def main(what: str, folder: str) -> None:
    model, tx = jaxconv.create_model("dropout", filters=(3, 4)), jaxconv.adam()
    net, labels = jaxconv.classifier(model, tx), []

    def step(state, batch):
        jax.debug.callback(lambda x: labels.append(np.asarray(x)), batch["label"], ordered=True)
        return net.train_step(state, batch)

    recording = net._replace(train_step=step)
    state = net.init(jax.random.key(0), (28, 28, 1))
    train = jaxconv.load_dataset().train.batch()
    data = {name: x[:300] for name, x in train.items()}
    run = {"batch_size": 64, "chunks": 5}
    mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))
    everywhere = jax.tree.map(lambda _: NamedSharding(mesh, P()), state)
    if what == "save":
        kept = []
        save = lambda *x: kept.append(jax.device_get(x))  # noqa: E731
        jaxconv.fit(net, state, data, epochs=1, save=save, **run)
        state, resume_point = kept[2]
        state = jax.device_put(state, everywhere)
        divided = NamedSharding(mesh, P(None, None, None, "batch"))
        kernel = jax.device_put(state.params["conv2"]["kernel"], divided)
        state.params["conv2"]["kernel"] = kernel
        assert len(kernel.sharding.device_set) == 4
        with Checkpoints(folder) as saves:
            saves.save(state, resume_point)
        print(bits(state))
        return
    with Checkpoints(folder) as saves:
        spread, _ = saves.restore(jax.device_put(state, everywhere))
        state, resume_point = saves.restore(state)
    assert len(spread.step.sharding.device_set) == jax.device_count()
    assert bits(spread) == bits(state)
    restored = bits(state)
    labels.clear()
    _, history = jaxconv.fit(recording, state, data, epochs=2, resume=resume_point, **run)
    jax.effects_barrier()
    seen = np.concatenate(labels).tolist()
    data = jax.device_put(data, everywhere.step)
    # Without the recording: ordered callbacks need one device.
    _, again = jaxconv.fit(net, spread, data, epochs=2, resume=resume_point, **run)
    np.testing.assert_allclose(again[1]["loss"], history[1]["loss"], rtol=1e-4)
    print(json.dumps({"restored": restored, "labels": seen, "loss": history[1]["loss"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
