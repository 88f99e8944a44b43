"""A classifier: a net, its optimizer, its loss and its metrics, as one value."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxconv.models.forward import Model, as_linen
from jaxconv.training.losses import Loss, sparse_categorical_crossentropy
from jaxconv.training.metrics import Metric, accuracy
from jaxconv.training.state import TrainState, create_train_state
from jaxconv.training.step import (
    EvalStep,
    TrainStep,
    eval_logits,
    make_eval_step,
    make_train_step,
)


class Classifier(NamedTuple):
    """Four pure functions that belong together, as optax has two; `classifier` makes it."""

    init: Callable[..., TrainState]
    """`(rng, input_shape, *, params=None) -> state`, as `create_train_state`."""
    train_step: TrainStep
    """`(state, batch) -> (state, sums)`."""
    eval_step: EvalStep
    """`(state, batch) -> sums`."""
    predict: Callable[[TrainState, Any], Array]
    """`(state, image) -> [N, num_classes]`, the probabilities of one batch, at least float32."""


def classifier(
    model: Model,
    tx: optax.GradientTransformation,
    *,
    loss: Loss = sparse_categorical_crossentropy,
    metrics: Mapping[str, Metric] = {"accuracy": accuracy},
) -> Classifier:
    """Joins a net and its optimizer in one value of pure functions, not yet compiled.

    `fit`, `evaluate` and `predict` drive it; `jit`, `vmap`, `scan` and `grad` take its functions.

    Args:
      model: a classifier of image batches: a Linen module, with or without a `train` argument; or
        what makes an NNX module from `rngs`, its class or a function. Its state is `params` and
        `batch_stats`.
      tx: an optax transform. The step also gives it `value`, `grad` and `value_fn` of the loss.
      loss: `(logits, labels) -> [N]`, one value per sample.
      metrics: functions like `loss`, by name.

    Raises:
      TypeError: if `model` is neither.
      ValueError: if a metric is named `loss` or `count`.

    Example:
      >>> import jaxconv
      >>> net = jaxconv.classifier(jaxconv.create_model("dense"), jaxconv.rmsprop())
      >>> state = net.init(jax.random.key(0), (28, 28, 1))
      >>> batch = {"image": jnp.ones((4, 28, 28, 1)), "label": jnp.arange(4)}
      >>> state, sums = jax.jit(net.train_step)(state, batch)
      >>> int(sums["count"]), net.predict(state, batch["image"]).shape
      (4, (4, 10))
    """
    module = as_linen(model)

    def predict(state: TrainState, image: Any) -> Array:
        logits = eval_logits(module, state, image)
        return jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))

    return Classifier(
        init=partial(create_train_state, module, tx),
        train_step=make_train_step(module, tx, loss=loss, metrics=metrics),
        eval_step=make_eval_step(module, loss=loss, metrics=metrics),
        predict=predict,
    )
