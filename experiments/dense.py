"""The dense baseline that notebook 001 compares its convnet with.

    python experiments/dense.py

MORE
"""

import dataclasses
from typing import Any

from jaxconv import create_model, experiment, rmsprop, sparse_categorical_crossentropy


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """The notebook's settings."""

    epochs: int = 5
    batch_size: int = 128
    learning_rate: float = 1e-3


def main(config: Config) -> dict[str, Any]:
    if config.padding != "valid":
        raise ValueError(f"dense has no convolution that padding={config.padding!r} could change.")
    return experiment.run(
        config,
        name="dense",
        model=lambda num_classes: create_model("dense", num_classes),
        tx=rmsprop,
        loss=sparse_categorical_crossentropy,
    )


if __name__ == "__main__":
    experiment.cli(Config, main, __doc__)
