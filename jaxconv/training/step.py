"""The state of a training run and its one pure step; `loop` and `evaluation` drive it.

A step is `(state, batch) -> (state, metrics)`; a batch is `{"image": [N, H, W, C], "label": [N]}`
and may carry `"mask": [N]` (1 counts, 0 does not). jit, vmap, scan and shardings wrap it from
outside. All randomness comes from the state's root key, separated by purpose and then by position:

    fold_in(fold_in(rng, 0), epoch)  the order of an epoch (`data.epoch_permutation`)
    fold_in(fold_in(rng, 1), step)   a step's dropout
    fold_in(rng, 2)                  the initial parameters
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped, UInt32

from jaxconv.data import Batch
from jaxconv.losses import Loss, sparse_categorical_crossentropy
from jaxconv.metrics import Metric, accuracy

TrainStep = Callable[["TrainState", Batch], tuple["TrainState", dict[str, Array]]]
EvalStep = Callable[["TrainState", Batch], dict[str, Array]]


class TrainState(NamedTuple):
    """Everything that training changes, arrays only: to be donated, vmapped, sharded, saved."""

    step: Int[Array, ""]
    """Steps taken so far."""
    params: PyTree[Array]
    opt_state: PyTree[Array]
    rng: Key[Array, ""] | UInt32[Array, "2"]
    """The run's root key. It never changes."""
    batch_stats: PyTree[Array]
    """The running statistics of BatchNorm; `{}` for a model without."""


def create_train_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    rng: Key[Array, ""] | UInt32[Array, "2"] | UInt32[np.ndarray, "2"],
    input_shape: Sequence[int],
    *,
    params: PyTree[Shaped[Array | np.ndarray, "..."]] | None = None,
) -> TrainState:
    """Initial parameters and optimizer state, from the run's root key.

    Args:
      model: any Linen classifier of image batches, with a `train` argument or without.
      tx: any optax transform.
      rng: the root key of the run, `jax.random.key(seed)`.
      input_shape: the shape of one image, `(height, width, channels)`.
      params: parameters to begin with instead of random ones, e.g. from `keras.load_weights`.

    Raises:
      TypeError: if `rng` is not a key.
      ValueError: if the images are too small for the model, the model keeps variables other than
        `params` and `batch_stats`, or the given `params` are not the model's.

    Example:
      >>> import jaxconv
      >>> model = jaxconv.create_model("lab6")
      >>> state = create_train_state(model, jaxconv.rmsprop(), jax.random.key(1), (28, 28, 1))
      >>> sum(x.size for x in jax.tree.leaves(state.params))
      104202
    """
    if not isinstance(rng, jax.Array | np.ndarray):
        raise TypeError(f"rng must be a PRNG key such as jax.random.key(0), not {rng!r}.")
    image = jnp.zeros((1, *input_shape), model_dtype(model))

    @jax.jit
    def init(rng: Array, given: PyTree | None) -> TrainState:
        variables = dict(
            model.init(jax.random.fold_in(rng, 2), image, **train_argument(model, train=False))
        )
        params = variables.pop("params", {})
        batch_stats = variables.pop("batch_stats", {})
        if variables:
            raise ValueError(
                f"The model keeps variables in {sorted(variables)}; a TrainState has room for "
                "'params' and 'batch_stats' alone."
            )
        if given is not None:
            check_params(given, params)
            params = given
        return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), rng, batch_stats)

    return init(jnp.asarray(rng), params)


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
    measures = _measures(loss, metrics)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        if "mask" in batch and state.batch_stats:
            raise ValueError(
                "A masked batch would enter BatchNorm's statistics: train a model with batch_stats "
                "on whole batches, without 'mask', whose size the number of devices divides."
            )
        dropout = jax.random.fold_in(jax.random.fold_in(state.rng, 1), state.step)

        def objective(params: PyTree) -> tuple[Array, tuple[dict[str, Array], PyTree]]:
            logits, updated = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                as_float(batch["image"], model),
                rngs={"dropout": dropout},
                mutable=["batch_stats"],
                **train_argument(model, train=True),
            )
            sums = _sums(measures, logits, batch)
            mean_loss = sums["loss"] / jnp.maximum(sums["count"], 1)
            return mean_loss, (sums, updated.get("batch_stats", {}))

        (value, (sums, batch_stats)), gradients = jax.value_and_grad(objective, has_aux=True)(
            state.params
        )
        updates, opt_state = optax.with_extra_args_support(tx).update(
            gradients,
            state.opt_state,
            state.params,
            value=value,
            grad=gradients,
            value_fn=lambda params: objective(params)[0],
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
    measures = _measures(loss, metrics)

    def eval_step(state: TrainState, batch: Batch) -> dict[str, Array]:
        return _sums(measures, eval_logits(model, state, batch["image"]), batch)

    return eval_step


def check_params(given: PyTree, params: PyTree) -> None:
    """Refuses parameters that differ from a model's own in structure, shape or dtype.

    Args:
      given: the parameters.
      params: the model's own, or their shapes.

    Raises:
      ValueError: with the first parameter that differs, what it is and what it should be.

    Example:
      >>> check_params({"bias": jnp.zeros(3)}, {"bias": jnp.zeros(10)})
      Traceback (most recent call last):
      ValueError: params['bias'] is (3,) float32, but the model's is (10,) float32: pass ...
    """
    has, wants = (
        {
            jax.tree_util.keystr(path): f"{np.shape(x)} {jnp.result_type(x)}"
            for path, x in jax.tree_util.tree_flatten_with_path(tree)[0]
        }
        for tree in (given, params)
    )
    for path in sorted(has.keys() | wants.keys()):
        if has.get(path) != wants.get(path):
            raise ValueError(
                f"params{path} is {has.get(path, 'missing')}, but the model's is "
                f"{wants.get(path, 'missing')}: pass parameters of this model and input_shape."
            )


def _measures(loss: Loss, metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    taken = sorted({"loss", "count"} & metrics.keys())
    if taken:
        raise ValueError(f"The steps report {' and '.join(taken)} themselves: rename the metric.")
    return {"loss": loss, **metrics}


def _sums(measures: Mapping[str, Metric], logits: Array, batch: Batch) -> dict[str, Array]:
    samples = logits.shape[:1]
    mask = jnp.asarray(batch["mask"]).astype(bool) if "mask" in batch else None
    label, sums = jnp.asarray(batch["label"]), {}
    if mask is not None and mask.shape != samples:
        raise ValueError(f"The mask must have one value a sample, {samples}, not {mask.shape}.")
    if label.shape not in (samples, logits.shape):
        raise ValueError(
            f"Labels are integers {samples} or one-hot {logits.shape}, not {label.shape}."
        )
    for name, measure in measures.items():
        values = measure(logits, label)
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


def model_dtype(model: nn.Module) -> Any:
    """What uint8 images become for this model: its `dtype`, or float32 where it names none.

    Example:
      >>> model_dtype(nn.Dense(10)).__name__
      'float32'
    """
    return getattr(model, "dtype", None) or jnp.float32


def train_argument(model: nn.Module, *, train: bool) -> dict[str, Any]:
    """`{"train": train}` for a model whose `__call__` takes it, else `{}`.

    Example:
      >>> train_argument(nn.Dense(10), train=True)
      {}
    """
    takes_train = "train" in inspect.signature(type(model).__call__).parameters
    return {"train": train} if takes_train else {}


def as_float(image: Array | np.ndarray, model: nn.Module) -> Array:
    """Images as a step gives them to the model: uint8 scaled to [0, 1], floats as they are.

    Raises:
      ValueError: for other integers.

    Example:
      >>> as_float(np.full((1, 2, 2, 1), 255, np.uint8), nn.Dense(10)).max()
      Array(1., dtype=float32)
    """
    image = jnp.asarray(image)
    if image.dtype == jnp.uint8:
        return image.astype(model_dtype(model)) / 255
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(
            f"Images are uint8, which is scaled, or floating point, which is not; these are "
            f"{image.dtype}: convert them with astype."
        )
    return image
