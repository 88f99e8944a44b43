"""Keras' simple convnet (notebook 004): two convolutions, dropout, one-hot labels.

    python experiments/dropout.py

Dropout before the only dense layer: validation accuracy stays ahead of training's, which is
measured with half of the features missing.

Test accuracy 0.9911 ± 0.0003 (mean ± std of seeds 0 to 4; the notebook prints 0.9922).
Takes 80 s from start to end, 5 s an epoch, on 2 CPU cores with jax 0.10.2.
"""

import dataclasses
from typing import Any

from jaxconv import adam, categorical_crossentropy, create_model, one_hot_labels
from jaxconv.runs import experiment


@dataclasses.dataclass(frozen=True)
class Config(experiment.Config):
    """The notebook's settings."""

    epochs: int = 15
    batch_size: int = 128
    learning_rate: float = 1e-3
    validation_split: float = 0.1


def main(config: Config) -> dict[str, Any]:
    return experiment.run(
        config,
        name="dropout",
        model=lambda num_classes: create_model("dropout", num_classes, padding=config.padding),
        tx=adam,
        loss=one_hot_labels(categorical_crossentropy),
    )


if __name__ == "__main__":
    experiment.cli(Config, main, __doc__)
