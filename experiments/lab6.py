"""Lab 6's convnet (notebook 001): three convolutions, two poolings, one dense layer.

    python experiments/lab6.py

Learned features against a dense net: 0.8% error where `dense.py` has 2.1%, with a quarter of its
parameters.

Test accuracy 0.9923 ± 0.0005 (mean ± std of seeds 0 to 4; the notebook prints 0.991).
Takes 40 s from start to end, 7 s an epoch, on 2 CPU cores with jax 0.10.2.
"""

import dataclasses
from typing import Any

from jaxconv import create_model, rmsprop, sparse_categorical_crossentropy
from jaxconv.runs import experiment


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """The notebook's settings."""

    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 1e-3


def main(config: Config) -> dict[str, Any]:
    return experiment.run(
        config,
        name="lab6",
        model=lambda num_classes: create_model("lab6", num_classes, padding=config.padding),
        tx=rmsprop,
        loss=sparse_categorical_crossentropy,
    )


if __name__ == "__main__":
    experiment.cli(Config, main, __doc__)
