"""The state of a training run and its one pure step; `loop` and `evaluation` drive it.

A step is `(state, batch) -> (state, metrics)`; a batch is `{"image": [N, H, W, C], "label": [N]}`
and may carry `"mask": [N]` (1 counts, 0 does not). jit, vmap, scan and shardings wrap it from
outside. All randomness comes from the state's root key, separated by purpose and then by position:

    fold_in(fold_in(rng, 0), epoch)  the order of an epoch (`data.epoch_permutation`)
    fold_in(fold_in(rng, 1), step)   a step's dropout
    fold_in(rng, 2)                  the initial parameters
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, PyTree, Shaped

from jaxconv.data.arrays import Batch
from jaxconv.training.keys import dropout_key
from jaxconv.training.losses import Loss, sparse_categorical_crossentropy
from jaxconv.training.metrics import Metric, accuracy
from jaxconv.training.state import TrainState, as_float, train_argument

TrainStep = Callable[["TrainState", Batch], tuple["TrainState", dict[str, Array]]]
EvalStep = Callable[["TrainState", Batch], dict[str, Array]]


def make_train_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    *,
    loss: Loss = sparse_categorical_crossentropy,
    metrics: Mapping[str, Metric] = {"accuracy": accuracy},
) -> TrainStep:
    """The train step of a model: a pure function, neither compiled nor bound to any data.

    Args:
      model: a Linen classifier, as in `create_train_state`.
      tx: an optax transform. One that asks for more than gradients gets `value`, `grad` and
        `value_fn` of the loss, as line searches do.
      loss: `(logits, labels) -> [N]`, one value a sample. The step descends on the mean over the
        samples that count.
      metrics: by name, functions as `loss`.

    Returns:
      `(state, batch) -> (state, sums)`, where `sums` has the loss and the metrics added up over the
      batch (before the update, as Keras reports them) and `count`, the samples that counted. uint8
      images are scaled to [0, 1] in the model's dtype; floating-point images pass as they are.

    Raises:
      ValueError: while tracing, for a masked batch and a model with BatchNorm, whose statistics
        padding would enter.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> batch = {"image": jnp.ones((4, 28, 28, 1)), "label": jnp.arange(4)}
      >>> state, sums = jax.jit(jaxconv.make_train_step(model, tx))(state, batch)
      >>> int(state.step), sorted(sums), int(sums["count"])
      (1, ['accuracy', 'count', 'loss'], 4)
    """
    metric_fns = _metric_fns(loss, metrics)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        if "mask" in batch and state.batch_stats:
            raise ValueError(
                "A masked batch would enter BatchNorm's statistics: train a model with batch_stats "
                "on whole batches, without 'mask', whose size the number of devices divides."
            )
        dropout = dropout_key(state.rng, state.step)

        def loss_fn(params: PyTree) -> tuple[Array, tuple[dict[str, Array], PyTree]]:
            logits, updated = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                as_float(batch["image"], model),
                rngs={"dropout": dropout},
                mutable=["batch_stats"],
                **train_argument(model, train=True),
            )
            sums = _sums(metric_fns, logits, batch)
            mean_loss = sums["loss"] / jnp.maximum(sums["count"], 1)
            return mean_loss, (sums, updated.get("batch_stats", {}))

        (value, (sums, batch_stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params
        )
        updates, opt_state = optax.with_extra_args_support(tx).update(
            grads,
            state.opt_state,
            state.params,
            value=value,
            grad=grads,
            value_fn=lambda params: loss_fn(params)[0],
        )
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state, state.rng, batch_stats), sums

    return train_step


def make_eval_step(
    model: nn.Module,
    *,
    loss: Loss = sparse_categorical_crossentropy,
    metrics: Mapping[str, Metric] = {"accuracy": accuracy},
) -> EvalStep:
    """The pure evaluation step `(state, batch) -> sums`, without dropout; see `make_train_step`.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> batch = {"image": jnp.ones((4, 28, 28, 1)), "label": jnp.arange(4)}
      >>> batch["mask"] = jnp.array([1, 1, 1, 0])
      >>> int(jaxconv.make_eval_step(model)(state, batch)["count"])
      3
    """
    metric_fns = _metric_fns(loss, metrics)

    def eval_step(state: TrainState, batch: Batch) -> dict[str, Array]:
        return _sums(metric_fns, eval_logits(model, state, batch["image"]), batch)

    return eval_step


def _metric_fns(loss: Loss, metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    taken = sorted({"loss", "count"} & metrics.keys())
    if taken:
        raise ValueError(f"The steps report {' and '.join(taken)} themselves: rename the metric.")
    return {"loss": loss, **metrics}


def _sums(metric_fns: Mapping[str, Metric], logits: Array, batch: Batch) -> dict[str, Array]:
    samples = logits.shape[:1]
    mask = jnp.asarray(batch["mask"]).astype(bool) if "mask" in batch else None
    label, sums = jnp.asarray(batch["label"]), {}
    if mask is not None and mask.shape != samples:
        raise ValueError(f"The mask must have one value a sample, {samples}, not {mask.shape}.")
    if label.shape not in (samples, logits.shape):
        raise ValueError(
            f"Labels are integers {samples} or one-hot {logits.shape}, not {label.shape}."
        )
    for name, metric_fn in metric_fns.items():
        values = metric_fn(logits, label)
        if values.shape != samples:
            raise ValueError(
                f"{name!r} must give one value a sample, {samples}, not {values.shape}."
            )
        # A mask of ones would not be folded away in every loop, and a sum be rounded otherwise.
        sums[name] = jnp.sum(values if mask is None else jnp.where(mask, values, 0))
    count = samples[0] if mask is None else jnp.sum(mask, dtype=jnp.int32)
    return sums | {"count": jnp.asarray(count, jnp.int32)}


def eval_logits(
    model: nn.Module, state: TrainState, image: Shaped[Array | np.ndarray, "batch *image"]
) -> Float[Array, "batch classes"]:
    """The model's logits without dropout, of images scaled as in a step.

    Example:
      >>> import jaxconv
      >>> model, tx = jaxconv.create_model("dense"), jaxconv.rmsprop()
      >>> state = jaxconv.create_train_state(model, tx, jax.random.key(0), (28, 28, 1))
      >>> eval_logits(model, state, jnp.zeros((2, 28, 28, 1), jnp.uint8)).shape
      (2, 10)
    """
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits = model.apply(variables, as_float(image, model), **train_argument(model, train=False))
    return jnp.asarray(logits)
