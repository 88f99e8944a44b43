"""All that touches a run's folder or a terminal.

The room may import every other room.
"""

from jaxconv.runs.checkpoint import Checkpoints as Checkpoints
from jaxconv.runs.cli import cli as cli
from jaxconv.runs.cli import exit_codes as exit_codes
from jaxconv.runs.config import Config as Config
from jaxconv.runs.experiment import run as run
