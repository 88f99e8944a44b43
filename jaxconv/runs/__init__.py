"""Runs of experiments: settings, the run's folder and its files, checkpoints, and the terminal.

The room may import every other room. `run` trains and evaluates one experiment; `cli` gives a
script its command line. The names of a run's files are in `jaxconv.runs.folder`.
"""

from jaxconv.runs.checkpoint import Checkpoints as Checkpoints
from jaxconv.runs.cli import cli as cli
from jaxconv.runs.cli import exit_codes as exit_codes
from jaxconv.runs.config import Config as Config
from jaxconv.runs.config import ConvModel as ConvModel
from jaxconv.runs.config import Data as Data
from jaxconv.runs.config import Model as Model
from jaxconv.runs.config import Parallel as Parallel
from jaxconv.runs.config import Run as Run
from jaxconv.runs.config import Seeds as Seeds
from jaxconv.runs.config import Training as Training
from jaxconv.runs.experiment import run as run
from jaxconv.runs.files import append_row as append_row
from jaxconv.runs.files import read_arrays as read_arrays
from jaxconv.runs.files import warn_if_not_written as warn_if_not_written
from jaxconv.runs.files import write_arrays as write_arrays
from jaxconv.runs.files import write_json as write_json
from jaxconv.runs.folder import new_run_folder as new_run_folder
from jaxconv.runs.folder import next_free as next_free
from jaxconv.runs.folder import report_interrupt as report_interrupt
from jaxconv.runs.plan import Plan as Plan
from jaxconv.runs.recipe import Recipe as Recipe
from jaxconv.runs.report.render import write_report as write_report
from jaxconv.runs.result import diverged as diverged
from jaxconv.runs.result_lines import name_seeds as name_seeds
from jaxconv.runs.trained import Trained as Trained
from jaxconv.runs.trained import load_run as load_run
from jaxconv.runs.values import parse_seeds as parse_seeds
