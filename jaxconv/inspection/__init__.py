"""Facts about a model: its summary, the formulas behind its figures, its feature maps.

The room may import `training`, `data`, `models`, `parallel`, `measure` and `_checks`.
"""

from jaxconv.inspection.arithmetic import conv_params as conv_params
from jaxconv.inspection.arithmetic import dense_params as dense_params
from jaxconv.inspection.arithmetic import effective_kernel_size as effective_kernel_size
from jaxconv.inspection.arithmetic import explicit_padding as explicit_padding
from jaxconv.inspection.arithmetic import macs as macs
from jaxconv.inspection.arithmetic import output_size as output_size
from jaxconv.inspection.arithmetic import train_step_flops as train_step_flops
from jaxconv.inspection.explain import explain as explain
from jaxconv.inspection.feature_maps import feature_maps as feature_maps
from jaxconv.inspection.receptive_field import ReceptiveField as ReceptiveField
from jaxconv.inspection.receptive_field import receptive_field as receptive_field
from jaxconv.inspection.summary import LayerRow as LayerRow
from jaxconv.inspection.summary import layer_rows as layer_rows
from jaxconv.inspection.summary import summary as summary
from jaxconv.inspection.summary import trace_layers as trace_layers
