"""Trained nets in the formats of others: the weights of Keras 3, and nets in StableHLO and ONNX.

The room may import `inspection`, `training`, `data`, `models`, `parallel`, `measure` and `_checks`.
"""

from jaxconv.export.keras import check_save as check_save
from jaxconv.export.keras import load_variables as load_variables
from jaxconv.export.keras import load_weights as load_weights
from jaxconv.export.keras import save_weights as save_weights
from jaxconv.export.onnx import save_onnx as save_onnx
from jaxconv.export.stablehlo import save_stablehlo as save_stablehlo
