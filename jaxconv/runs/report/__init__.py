"""The page of a run: what is collected of the trained net, and how it is shown."""

from jaxconv.runs.report.collect import collect_diagnostics as collect_diagnostics
from jaxconv.runs.report.collect import save_diagnostics as save_diagnostics
from jaxconv.runs.report.render import write_report as write_report
