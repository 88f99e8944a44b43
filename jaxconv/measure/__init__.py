"""Clocks, facts about the machine, and statistics.

The room may import no other room.
"""

from jaxconv.measure.compilation_cache import cache_if_possible as cache_if_possible
from jaxconv.measure.compilation_cache import persistent_cache as persistent_cache
from jaxconv.measure.environment import environment as environment
from jaxconv.measure.environment import host as host
from jaxconv.measure.environment import peak_memory as peak_memory
from jaxconv.measure.statistics import RelativeReduction as RelativeReduction
from jaxconv.measure.statistics import Summary as Summary
from jaxconv.measure.statistics import calibration_error as calibration_error
from jaxconv.measure.statistics import paired_t_test as paired_t_test
from jaxconv.measure.statistics import relative_reduction as relative_reduction
from jaxconv.measure.statistics import summarize as summarize
from jaxconv.measure.timing import CompileWatch as CompileWatch
from jaxconv.measure.timing import Stopwatch as Stopwatch
from jaxconv.measure.timing import compile_stages as compile_stages
from jaxconv.measure.timing import matmul_rate as matmul_rate
from jaxconv.measure.timing import steady_state as steady_state
