"""The nets: a Linen module with the notebooks' settings, its layers, and their operations.

The room may import `measure` and `_checks`.
"""

from jaxconv.models._arguments import Padding as Padding
from jaxconv.models._arguments import Pair as Pair
from jaxconv.models._patches import split_batch as split_batch
from jaxconv.models.convnet import ARCHITECTURES as ARCHITECTURES
from jaxconv.models.convnet import BATCH_NORM_EPSILON as BATCH_NORM_EPSILON
from jaxconv.models.convnet import ConvNet as ConvNet
from jaxconv.models.convnet import as_hashable as as_hashable
from jaxconv.models.convnet import create_model as create_model
from jaxconv.models.forward import Model as Model
from jaxconv.models.forward import as_float as as_float
from jaxconv.models.forward import as_linen as as_linen
from jaxconv.models.forward import call_arguments as call_arguments
from jaxconv.models.forward import model_dtype as model_dtype
from jaxconv.models.layers import ACTIVATIONS as ACTIVATIONS
from jaxconv.models.layers import Activation as Activation
from jaxconv.models.layers import Conv as Conv
from jaxconv.models.layers import Dense as Dense
from jaxconv.models.layers import Flatten as Flatten
from jaxconv.models.layers import GlobalPool as GlobalPool
from jaxconv.models.layers import Pool as Pool
from jaxconv.models.layers import activate as activate
from jaxconv.models.ops import Form as Form
from jaxconv.models.ops import avg_pool as avg_pool
from jaxconv.models.ops import choose_form as choose_form
from jaxconv.models.ops import conv as conv
from jaxconv.models.ops import conv_max_pool as conv_max_pool
from jaxconv.models.ops import max_pool as max_pool
