"""jaxconv, as the experiments use it. `bench_peers.py` starts it."""

import jax

import jaxconv
from experiments.benchmarks.keras_nets import Notebook
from experiments.benchmarks.peers.peer_main import Digits, main
from experiments.benchmarks.recipes import net_of
from jaxconv.measure import CompileWatch, persistent_cache

WATCH = CompileWatch()


class Jaxconv:
    """`jaxconv.fit` and `jaxconv.evaluate` on data that lie on the device."""

    def __init__(self, net: str, notebook: Notebook) -> None:
        self.device = jax.devices()[0].device_kind
        self.net = net_of(net)
        self.state = self.net.init(jax.random.key(0), (28, 28, 1))

    def prepare(self, digits: Digits) -> Digits:
        return Digits(*map(jax.device_put, digits))

    def fit(self, train: Digits, notebook: Notebook, epochs: int, test: Digits | None) -> float:
        split = 0.0 if test is None else notebook.validation_split
        kept = int(len(train.image) * (1 - split))
        held_out = {name: x[kept:] for name, x in train._asdict().items()} if split else None
        if test is not None and notebook.validate_on_test:
            held_out = test._asdict()
        self.state, history = jaxconv.fit(
            self.net,
            self.state,
            {name: x[:kept] for name, x in train._asdict().items()},
            epochs=epochs,
            batch_size=notebook.batch_size,
            validation=held_out,
        )
        return history[-1]["seconds"]

    @property
    def facts(self) -> dict[str, int]:
        return {"programs": WATCH.compilations, "programs_from_cache": WATCH.cached}

    def accuracy(self, test: Digits) -> float:
        return jaxconv.evaluate(self.net, self.state, test._asdict())["accuracy"]


if __name__ == "__main__":
    with persistent_cache(), WATCH:
        main(Jaxconv, "jaxconv", "flax", "optax", "jax", "jaxlib", "numpy")
