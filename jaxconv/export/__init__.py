"""Weights to and from the formats of others: the files of Keras 3.

The room may import `inspection`, `training`, `data`, `models`, `parallel`, `measure` and `_checks`.
"""

from jaxconv.export.keras import check_save as check_save
from jaxconv.export.keras import load_weights as load_weights
from jaxconv.export.keras import save_weights as save_weights
