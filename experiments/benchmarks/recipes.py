"""The notebooks' settings and nets, for the scripts that compare and time them.

The five experiments (`experiments/lab6.py` and so on) own the settings; here they are read.
"""

from types import ModuleType
from typing import Any

import jaxconv
from experiments import dense, dropout, intro, lab6, strided
from experiments.benchmarks.keras_nets import Notebook

EXPERIMENTS: dict[str, ModuleType] = {
    module.RECIPE.name: module for module in (lab6, intro, strided, dropout, dense)
}
"""The scripts that train the notebooks' nets, by the net's name."""


def settings_of(experiment: ModuleType) -> Notebook:
    """The settings of an experiment, by the names that Keras has for them.

    Example:
      >>> settings_of(dropout)._asdict()["optimizer"]
      'adam'
    """
    recipe, config = experiment.RECIPE, experiment.CONFIG
    # The notebooks have two losses, and one_hot_labels makes a function without a name.
    integers = recipe.loss is jaxconv.sparse_categorical_crossentropy
    return Notebook(
        optimizer=recipe.tx.__name__,
        loss="sparse_categorical_crossentropy" if integers else "categorical_crossentropy",
        batch_size=config.training.batch_size,
        epochs=config.training.epochs,
        validation_split=config.data.validation_split,
        validate_on_test=recipe.validate_on_test,
    )


NOTEBOOKS = {name: settings_of(module) for name, module in EXPERIMENTS.items()}
"""How each notebook trains its net."""


def net_of(name: str, **settings: Any) -> jaxconv.Classifier:
    """A notebook's net with its optimizer and loss, for integer labels.

    Args:
      name: one of `EXPERIMENTS`.
      **settings: arguments of `create_model` that differ from the notebook's.

    Example:
      >>> import jax
      >>> int(net_of("dense", dtype="bfloat16").init(jax.random.key(0), (28, 28, 1)).step)
      0
    """
    recipe, config = EXPERIMENTS[name].RECIPE, EXPERIMENTS[name].CONFIG
    return jaxconv.classifier(
        jaxconv.create_model(name, **settings),
        recipe.tx(config.training.learning_rate),
        loss=recipe.loss,
    )
