"""Keras' simple convnet (notebook 004): two convolutions, dropout, one-hot labels.

    python experiments/dropout.py

Dropout comes before the only dense layer. Validation accuracy stays ahead of training accuracy,
which is measured with half of the features missing.

Test accuracy 0.9911 ± 0.0003 (mean ± std of seeds 0 to 4; the notebook prints 0.9922).
A run takes 80 s, an epoch 5 s, on 2 CPU cores with jax 0.10.2.
"""

import functools
from typing import Any

from jaxconv import adam, categorical_crossentropy, create_model, one_hot_labels, runs

RECIPE = runs.Recipe(
    "dropout",
    model=functools.partial(create_model, "dropout"),
    tx=adam,
    loss=one_hot_labels(categorical_crossentropy),
)
CONFIG = runs.Config(
    runs.Training(epochs=15, batch_size=128, learning_rate=1e-3),
    data=runs.Data(validation_split=0.1),
    model=runs.ConvModel(),
)


def main(config: runs.Config = CONFIG) -> dict[str, Any]:
    return runs.run(RECIPE, config)


if __name__ == "__main__":
    runs.cli(CONFIG, main, __doc__)
