"""MNIST-class convnets as pure functions: Keras' notebooks in JAX and Flax.

The package consists of rooms, each a module with one subject. From the lowest floor up they are
`measure`, `models` and `parallel`, `data`, `training`, `inspection`, `export`, `runs`. A room
imports only from the floors below it.
"""

__version__ = "0.1.0"

try:
    import jax as _jax  # noqa: F401
except ValueError as error:  # after 50 lines of traceback JAX says which variable, but not more
    raise ValueError(f"{error}: correct or unset this variable of the environment.") from None

from jaxconv import data as data
from jaxconv import export as export
from jaxconv import inspection as inspection
from jaxconv import measure as measure
from jaxconv import models as models
from jaxconv import parallel as parallel
from jaxconv import runs as runs
from jaxconv import training as training
from jaxconv.data import Dataset as Dataset
from jaxconv.data import Split as Split
from jaxconv.data import load_dataset as load_dataset
from jaxconv.inspection import explain as explain
from jaxconv.inspection import feature_maps as feature_maps
from jaxconv.inspection import summary as summary
from jaxconv.models import ConvNet as ConvNet
from jaxconv.models import create_model as create_model
from jaxconv.runs import load_run as load_run
from jaxconv.training import Classifier as Classifier
from jaxconv.training import TrainState as TrainState
from jaxconv.training import accuracy as accuracy
from jaxconv.training import adam as adam
from jaxconv.training import average_weights as average_weights
from jaxconv.training import averaged as averaged
from jaxconv.training import categorical_crossentropy as categorical_crossentropy
from jaxconv.training import classifier as classifier
from jaxconv.training import create_train_state as create_train_state
from jaxconv.training import epoch_permutation as epoch_permutation
from jaxconv.training import evaluate as evaluate
from jaxconv.training import fit as fit
from jaxconv.training import keep_best as keep_best
from jaxconv.training import kept as kept
from jaxconv.training import learning_rate_schedule as learning_rate_schedule
from jaxconv.training import make_eval_step as make_eval_step
from jaxconv.training import make_train_step as make_train_step
from jaxconv.training import one_hot_labels as one_hot_labels
from jaxconv.training import predict as predict
from jaxconv.training import regularize as regularize
from jaxconv.training import rmsprop as rmsprop
from jaxconv.training import smoothed_crossentropy as smoothed_crossentropy
from jaxconv.training import sparse_categorical_crossentropy as sparse_categorical_crossentropy
from jaxconv.training import train_epoch as train_epoch
