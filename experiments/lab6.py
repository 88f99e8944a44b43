"""Lab 6's convnet (notebook 001): three convolutions, two poolings, one dense layer.

    python experiments/lab6.py

It learns its features: its error is 0.8% where `dense.py` has 2.1%, with a quarter of its
parameters.

Test accuracy 0.9923 ± 0.0005 (mean ± std of seeds 0 to 4; the notebook prints 0.991).
A run takes 40 s, an epoch 7 s, on 2 CPU cores with jax 0.10.2.
"""

import functools
from typing import Any

from jaxconv import create_model, rmsprop, runs, sparse_categorical_crossentropy

RECIPE = runs.Recipe(
    "lab6",
    model=functools.partial(create_model, "lab6"),
    tx=rmsprop,
    loss=sparse_categorical_crossentropy,
)
CONFIG = runs.Config(
    runs.Training(epochs=5, batch_size=64, learning_rate=1e-3),
    model=runs.ConvModel(),
)


def main(config: runs.Config = CONFIG) -> dict[str, Any]:
    return runs.run(RECIPE, config)


if __name__ == "__main__":
    runs.cli(CONFIG, main, __doc__)
