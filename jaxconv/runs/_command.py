"""The command line that repeats a training, for `config.json` and the run's page."""

import dataclasses
import inspect
import shlex
from pathlib import Path

import jax

from jaxconv.runs.config import JAX_OPTIONS, OPERATIONAL, Config


def command(config: Config, name: str) -> str:
    """Returns the command line that repeats a training.

    It names the script whose class `config` has, and the settings that determine the result.

    Args:
      config: the settings.
      name: the experiment's name; it names the script if the class has no file.

    Returns:
      The command line; empty for a plain `Config`, which belongs to no script.

    Example:
      >>> command(Config(epochs=1, batch_size=64, learning_rate=0.001, seeds="3,7,"), "lab6")
      ''
    """
    if type(config) is Config:
        return ""
    try:
        path = Path(inspect.getfile(type(config))).resolve()
        script = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    except (OSError, TypeError):  # its class has no file
        script = f"{name}.py"
    changed = {x: getattr(jax.config, x, usual) for x, usual in JAX_OPTIONS.items()}
    changed = {x: value for x, value in changed.items() if value != JAX_OPTIONS[x]}
    words = [*(f"{x.upper()}={value}" for x, value in changed.items()), "python", script]
    for field in dataclasses.fields(config):
        value, option = getattr(config, field.name), field.name.replace("_", "-")
        shown = field.name not in OPERATIONAL or field.name in ("data_dir", "devices", "init_from")
        if shown and value != field.default:
            if isinstance(value, bool):
                words.append(f"--{option}" if value else f"--no-{option}")
            else:
                items = value if isinstance(value, list | tuple) else [value]
                words += [f"--{option}", *map(str, items)]
    return shlex.join(words)
