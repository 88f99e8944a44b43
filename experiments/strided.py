"""Convolutions in Practice (notebooks 000, 003): three linear convolutions of stride 2.

    python experiments/strided.py

MORE
"""

import dataclasses
from typing import Any

from jaxconv import adam, create_model, experiment, sparse_categorical_crossentropy


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """The notebook's settings."""

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3


def main(config: Config) -> dict[str, Any]:
    return experiment.run(
        config,
        name="strided",
        model=lambda num_classes: create_model("strided", num_classes, padding=config.padding),
        tx=adam,
        loss=sparse_categorical_crossentropy,
        validate_on_test=True,  # as the notebook does
    )


if __name__ == "__main__":
    experiment.cli(Config, main, __doc__)
