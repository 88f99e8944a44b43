"""MNIST-class convnets as pure functions: Keras' notebooks in JAX and Flax."""

from jaxconv import checkpoint as checkpoint
from jaxconv import keras as keras
from jaxconv import seeds as seeds
from jaxconv.data import Dataset as Dataset
from jaxconv.data import Split as Split
from jaxconv.data import epoch_permutation as epoch_permutation
from jaxconv.data import load_dataset as load_dataset
from jaxconv.evaluation import evaluate as evaluate
from jaxconv.evaluation import predict as predict
from jaxconv.explanation import explain as explain
from jaxconv.features import feature_maps as feature_maps
from jaxconv.loop import fit as fit
from jaxconv.loop import train_epoch as train_epoch
from jaxconv.losses import categorical_crossentropy as categorical_crossentropy
from jaxconv.losses import one_hot_labels as one_hot_labels
from jaxconv.losses import sparse_categorical_crossentropy as sparse_categorical_crossentropy
from jaxconv.metrics import accuracy as accuracy
from jaxconv.models import ConvNet as ConvNet
from jaxconv.models import create_model as create_model
from jaxconv.optimizers import adam as adam
from jaxconv.optimizers import rmsprop as rmsprop
from jaxconv.tabulate import summary as summary
from jaxconv.train import TrainState as TrainState
from jaxconv.train import create_train_state as create_train_state
from jaxconv.train import make_eval_step as make_eval_step
from jaxconv.train import make_train_step as make_train_step
