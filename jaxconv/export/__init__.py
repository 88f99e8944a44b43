"""To and from the formats of others: Keras' weights.

The room may import the rooms below it: `inspection`, `training`, `data`, `models`.
"""

from jaxconv.export.keras import check_save as check_save
from jaxconv.export.keras import load_weights as load_weights
from jaxconv.export.keras import save_weights as save_weights
