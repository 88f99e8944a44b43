"""The notebooks' nets in jaxconv, for the scripts that compare and time them.

For `python experiments/benchmarks/bench_step.py` and others.
"""

from typing import Any

import optax

import jaxconv
from experiments.benchmarks.keras_nets import NOTEBOOKS
from jaxconv.training.losses import Loss


def our_net(
    net: str, **settings: Any
) -> tuple[jaxconv.ConvNet, optax.GradientTransformation, Loss]:
    """Model, optimizer and loss on integer labels, as the notebook has them.

    Args:
      net: its name.
      **settings: arguments of `ConvNet` to depart from it.
    """
    notebook = NOTEBOOKS[net]
    loss = getattr(jaxconv, notebook.loss)
    if notebook.loss == "categorical_crossentropy":
        loss = jaxconv.one_hot_labels(loss)
    return jaxconv.create_model(net, **settings), getattr(jaxconv, notebook.optimizer)(), loss
