"""The door of `training`: how a net learns. The state, one pure step, and its drivers.

The path of a training is `state`, `step`, `epoch`, `fit`, `evaluate`: read them in this order.
`replicas` trains many seeds at once. The room may import `data`, `models`, `parallel`, `measure`
and `_checks`.
"""

from jaxconv.training._groups import check_keys as check_keys
from jaxconv.training._groups import choose_strategy as choose_strategy
from jaxconv.training._groups import group_of as group_of
from jaxconv.training._groups import groups as groups
from jaxconv.training._stacked import Strategy as Strategy
from jaxconv.training._stacked import first_state as first_state
from jaxconv.training._stacked import stack_states as stack_states
from jaxconv.training.average import average_weights as average_weights
from jaxconv.training.average import averaged as averaged
from jaxconv.training.best import keep_best as keep_best
from jaxconv.training.best import kept as kept
from jaxconv.training.epoch import train_epoch as train_epoch
from jaxconv.training.evaluate import evaluate as evaluate
from jaxconv.training.fit import fit as fit
from jaxconv.training.keys import augment_keys as augment_keys
from jaxconv.training.keys import dropout_key as dropout_key
from jaxconv.training.keys import epoch_permutation as epoch_permutation
from jaxconv.training.keys import init_key as init_key
from jaxconv.training.keys import order_key as order_key
from jaxconv.training.learning_rates import SCHEDULES as SCHEDULES
from jaxconv.training.learning_rates import learning_rate_schedule as learning_rate_schedule
from jaxconv.training.losses import Loss as Loss
from jaxconv.training.losses import categorical_crossentropy as categorical_crossentropy
from jaxconv.training.losses import one_hot_labels as one_hot_labels
from jaxconv.training.losses import smoothed_crossentropy as smoothed_crossentropy
from jaxconv.training.losses import (
    sparse_categorical_crossentropy as sparse_categorical_crossentropy,
)
from jaxconv.training.metrics import Metric as Metric
from jaxconv.training.metrics import Row as Row
from jaxconv.training.metrics import accuracy as accuracy
from jaxconv.training.optimizers import adam as adam
from jaxconv.training.optimizers import regularize as regularize
from jaxconv.training.optimizers import rmsprop as rmsprop
from jaxconv.training.predict import predict as predict
from jaxconv.training.replicas import evaluate_seeds as evaluate_seeds
from jaxconv.training.replicas import fit_seeds as fit_seeds
from jaxconv.training.resume_point import ResumePoint as ResumePoint
from jaxconv.training.resume_point import histories_of as histories_of
from jaxconv.training.sources import StreamedEpochs as StreamedEpochs
from jaxconv.training.sources import train_epoch_replicas as train_epoch_replicas
from jaxconv.training.state import TrainState as TrainState
from jaxconv.training.state import create_train_state as create_train_state
from jaxconv.training.step import Classifier as Classifier
from jaxconv.training.step import classifier as classifier
from jaxconv.training.step import make_eval_step as make_eval_step
from jaxconv.training.step import make_train_step as make_train_step
