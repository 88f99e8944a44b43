"""The Keras files of a run: the weights that it starts from, and those that it exports."""

from pathlib import Path
from typing import Any

from flax import linen as nn

from jaxconv.export import check_save, load_weights, save_weights
from jaxconv.runs.config import Config
from jaxconv.runs.folder import TRAINED
from jaxconv.training.state import TrainState


def read_initial_weights(config: Config, net: nn.Module, shape: tuple[int, ...]) -> Any:
    """Reads the weights of `init_from`, if given, and checks that `export_keras` can be written.

    Raises:
      FileExistsError: if the file to export exists, and `overwrite` is False.
      FileNotFoundError: if there is no file `init_from`.
      ValueError: if the weights are not those of the net.
    """
    if config.run.export_keras is not None:
        check_save(config.run.export_keras, net, shape, overwrite=config.run.overwrite)
    return None if config.run.init_from is None else load_weights(config.run.init_from, net, shape)


def export_trained_weights(
    config: Config, state: TrainState, net: nn.Module, shape: tuple[int, ...], folder: Path
) -> OSError | None:
    """Writes the weights to `export_keras`, if asked for, or if that fails to the run's folder.

    Returns:
      The error of the failed export, to raise once the run is finished; None without one.
    """
    if config.run.export_keras is None:
        return None
    path, fallback = str(config.run.export_keras), folder / TRAINED
    try:
        save_weights(path, state.params, net, shape, overwrite=config.run.overwrite)
    except OSError as error:
        save_weights(fallback, state.params, net, shape, overwrite=True)
        return OSError(f"{error} The trained weights are in {fallback} instead.")
    return None
