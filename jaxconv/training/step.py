"""The pure functions of one batch: the training step, the evaluation step, and `classifier`.

A step is `(state, batch) -> (state, sums)`. A batch is `{"image": [N, H, W, C], "label": [N]}` and
may have a `"mask": [N]` (True counts, False does not) and a `"weight": [N]` of each sample, Keras'
`sample_weight`. jit, vmap, scan and shardings wrap a step from outside.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.errors import InvalidRngError
from jaxtyping import Array, Float, PyTree, Shaped

from jaxconv.data.arrays import Batch
from jaxconv.data.augment import Augment
from jaxconv.models.forward import Model, as_float, as_linen, call_arguments
from jaxconv.training.keys import augment_keys, dropout_key
from jaxconv.training.losses import Loss, sparse_categorical_crossentropy, widen
from jaxconv.training.metrics import Metric, accuracy, add_up, with_loss
from jaxconv.training.state import TrainState, create_train_state
from jaxconv.training.transforms import check_opt_state, check_tx, update

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]
EvalStep = Callable[[TrainState, Batch], dict[str, Array]]


def make_train_step(
    model: Model,
    tx: optax.GradientTransformation,
    *,
    loss: Loss = sparse_categorical_crossentropy,
    metrics: Mapping[str, Metric] = {"accuracy": accuracy},
    augment: Augment | None = None,
) -> TrainStep:
    """Makes the training step of a model: a pure function, not yet compiled.

    It takes the arguments of `classifier`, and descends on the mean loss of the samples that count.

    Returns:
      `(state, batch) -> (state, sums)`: the loss and each metric, summed over the batch before the
      update, as Keras reports them, and `count`, the number of samples that count; if the batch has
      weights, also their sum, `weight`. uint8 images are scaled to [0, 1], floating-point images
      stay as they are.

    Raises:
      ValueError: if a metric is named `loss`, `count` or `weight`. The step raises it, while JAX
        traces it, for images, labels, masks, weights or an optimizer (its state) that do not fit,
        and for a masked batch if the model has BatchNorm: padding would enter its statistics.
      TypeError: if `tx` is no optax transform.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> batch = {"image": jnp.ones((4, 28, 28, 1)), "label": jnp.arange(4)}
      >>> state, sums = jax.jit(jaxconv.make_train_step(model, tx))(state, batch)
      >>> int(state.step), sorted(sums), int(sums["count"])
      (1, ['accuracy', 'count', 'loss'], 4)
    """
    net, metric_fns = as_linen(model), with_loss(loss, metrics)
    check_tx(tx)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        if "mask" in batch and state.batch_stats:
            raise ValueError(
                "A masked batch would enter BatchNorm's statistics: train a model with batch_stats "
                "on whole batches, without 'mask', whose size the number of devices divides."
            )
        check_opt_state(tx, state.opt_state, state.params)
        rngs, image = {"dropout": dropout_key(state.rng, state.step)}, batch["image"]
        if augment is not None:
            image = augment(augment_keys(state.rng, state.step, len(image)), jnp.asarray(image))

        def loss_fn(params: PyTree) -> tuple[Array, tuple[dict[str, Array], PyTree]]:
            logits, batch_stats = _logits(
                net, params, state.batch_stats, image, train=True, rngs=rngs
            )
            sums = add_up(metric_fns, logits, batch)
            count = jnp.maximum(sums["count"], 1).astype(sums["loss"].dtype)
            return sums["loss"] / count, (sums, batch_stats)

        grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
        (mean_loss, (sums, batch_stats)), grads = grad_fn(state.params)
        updates, opt_state = update(
            tx,
            grads,
            state.opt_state,
            state.params,
            value=mean_loss,
            grad=grads,
            value_fn=lambda params: loss_fn(params)[0],
        )
        params = optax.apply_updates(state.params, updates)
        changed = {"params": params, "opt_state": opt_state, "batch_stats": batch_stats}
        return state._replace(step=state.step + 1, **changed), sums

    return train_step


def make_eval_step(
    model: Model,
    *,
    loss: Loss = sparse_categorical_crossentropy,
    metrics: Mapping[str, Metric] = {"accuracy": accuracy},
) -> EvalStep:
    """Makes the evaluation step of a model, `(state, batch) -> sums`: no dropout, no update.

    Arguments, sums and errors are those of `make_train_step`; BatchNorm does not forbid a mask.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> batch = {"image": jnp.ones((4, 28, 28, 1)), "label": jnp.arange(4)}
      >>> batch["mask"] = jnp.array([1, 1, 1, 0])
      >>> int(jaxconv.make_eval_step(model)(state, batch)["count"])
      3
    """
    metric_fns = with_loss(loss, metrics)

    def eval_step(state: TrainState, batch: Batch) -> dict[str, Array]:
        return add_up(metric_fns, eval_logits(model, state, batch["image"]), batch)

    return eval_step


class Classifier(NamedTuple):
    """Four pure functions that belong together, as optax has two; `classifier` makes it."""

    init: Callable[..., TrainState]
    """`(rng, input_shape, *, params=None, batch_stats=None) -> state`, as `create_train_state`."""
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
    augment: Augment | None = None,
) -> Classifier:
    """Joins a net, its optimizer, its loss and its metrics in one value of pure functions.

    `fit`, `evaluate` and `predict` drive it; `jit`, `vmap`, `scan` and `grad` take its functions.

    Args:
      model: a classifier of image batches: a Linen module, with or without a `train` argument; or
        what makes an NNX module from `rngs`, its class or a function. Its state is `params` and
        `batch_stats`.
      tx: an optax transform. The step also gives it `value`, `grad` and `value_fn` of the loss,
        which line searches need. `optax.lookahead` and an opaque `optax.contrib.sam` need more, and
        are refused. A state of another optimizer is refused if its tree differs.
      loss: `(logits, labels) -> [N]`, one value per sample.
      metrics: functions like `loss`, by name.
      augment: changes the images of a training step before they are scaled, such as `warp` of
        `jaxconv.data`: `(keys, images) -> images`, a key for each image.

    Raises:
      TypeError: if `model` is neither, or `tx` is no optax transform.
      ValueError: if a metric is named `loss`, `count` or `weight`.

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
        return jax.nn.softmax(widen(eval_logits(module, state, image)))

    return Classifier(
        init=partial(create_train_state, module, tx),
        train_step=make_train_step(module, tx, loss=loss, metrics=metrics, augment=augment),
        eval_step=make_eval_step(module, loss=loss, metrics=metrics),
        predict=predict,
    )


def eval_logits(
    model: Model, state: TrainState, image: Shaped[Array | np.ndarray, "batch *image"]
) -> Float[Array, "batch classes"]:
    """Applies the model without dropout, to images scaled as in a step."""
    return _logits(as_linen(model), state.params, state.batch_stats, image, train=False)[0]


def _logits(
    net: nn.Module, params: PyTree, batch_stats: PyTree, image: Any, *, train: bool, **options: Any
) -> tuple[Array, PyTree]:
    """The model's output for images scaled as in a step, and its running statistics after it."""
    variables = {"params": params, "batch_stats": batch_stats}
    options |= {"mutable": ["batch_stats"] if train else [], **call_arguments(net, train=train)}
    try:
        logits, updated = net.apply(variables, as_float(image, net), **options)
    except InvalidRngError as error:
        raise ValueError(
            "The model asks for random numbers of a name that a step does not give: call "
            f"self.make_rng('dropout'). Flax says: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(logits, jax.Array) or logits.ndim == 0:
        raise ValueError(
            f"The model must return logits [N, classes], not {type(logits).__name__}: wrap it in a "
            "module that returns them alone."
        )
    statistics = updated.get("batch_stats", {})
    if statistics:  # Flax' BatchNorm begins with float32, and a float64 net moves them in float64
        statistics = jax.tree.map(lambda x, old: x.astype(old.dtype), statistics, batch_stats)
    return logits, statistics
