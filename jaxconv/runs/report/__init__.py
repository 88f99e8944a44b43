"""The page of a run: `collect` gathers what it shows of the net, `render` makes it from files.

The folder may import its own room, `runs`, and the rooms below; only `runs/experiment.py` and the
scripts import it.
"""

from jaxconv.runs.report.collect import collect_diagnostics as collect_diagnostics
from jaxconv.runs.report.collect import save_diagnostics as save_diagnostics
from jaxconv.runs.report.render import write_report as write_report
