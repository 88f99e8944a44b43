"""The notebooks' nets: one Linen module, and the table of its settings."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxconv._checks import check_choice
from jaxconv.models._arguments import Padding, Pair
from jaxconv.models._patches import split_batch
from jaxconv.models.layers import Activation, Conv, Dense, Flatten, GlobalPool, Pool, activate
from jaxconv.models.ops import Form, choose_form

BATCH_NORM_EPSILON = 1e-3
"""Keras' own; Flax' default is another."""


class ConvNet(nn.Module):
    """Convolutions, the first ones with pooling; flatten; dropout; dense layers; logits.

    Every net of the notebooks is a setting of this module (see `create_model`). The input channels
    follow the data. The module applies no softmax: `predict` applies it, the losses contain it. To
    capture each layer's output, use `feature_maps`, or `form="xla"`: the patches form joins
    pooling to convolution, and runs the convolutions of large batches in four parts.

    Args:
      num_classes: the number of logits.
      filters: the filters of each convolution.
      num_pools: the number of convolutions, from the first, that a pooling layer follows.
      hidden: the units of each dense relu layer between the flattened features and the logits.
      dropout_rate: the share of flattened features that dropout zeroes in training; 0 leaves the
        layer out.
      kernel_size, strides, padding, activation: the same for every convolution, as in `Conv`.
      pool, pool_size, pool_strides, pool_padding: the same for every pooling layer, as in `Pool`.
      batch_norm: whether BatchNorm (Keras' momentum 0.99 and epsilon 0.001) stands between each
        convolution, which then has no bias, and its activation.
      global_pool: whether the mean over all positions takes the place of Flatten.
      form: `"patches"`, `"xla"` or None for the backend's own (see `ops`).
      dtype, param_dtype: the dtypes of the computation and of the parameters.

    Example:
      >>> model = ConvNet(filters=(8, 16), num_pools=1)
      >>> image = jnp.ones((2, 28, 28, 1))
      >>> params = model.init(jax.random.key(0), image)["params"]
      >>> sorted(params), model.apply({"params": params}, image).shape
      (['conv1', 'conv2', 'logits'], (2, 10))
    """

    num_classes: int = 10
    filters: tuple[int, ...] = ()
    num_pools: int = 0
    hidden: tuple[int, ...] = ()
    dropout_rate: float = 0.0
    kernel_size: Pair = 3
    strides: Pair = 1
    padding: Padding = "valid"
    activation: Activation = "relu"
    pool: str = "max"
    pool_size: Pair = 2
    pool_strides: Pair | None = None
    pool_padding: Padding = "valid"
    batch_norm: bool = False
    global_pool: bool = False
    form: Form | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch classes"]:
        if not 0 <= self.dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), not {self.dropout_rate!r}.")
        if not 0 <= self.num_pools <= len(self.filters):
            raise ValueError(
                f"num_pools must be 0 to {len(self.filters)}, the number of convolutions, not "
                f"{self.num_pools!r}."
            )
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        own: dict[str, Any] = dtypes | {"use_bias": not self.batch_norm}
        activation = None if self.batch_norm else self.activation
        window = (self.kernel_size, self.strides, self.padding, activation, self.form)
        pooling = (self.pool, self.pool_size, self.pool_strides, self.pool_padding, self.form)
        convolutions = [
            Conv(filters, *window, **own, name=f"conv{i}")
            for i, filters in enumerate(self.filters, start=1)
        ]
        pools = [Pool(*pooling, name=f"pool{i}") for i in range(1, self.num_pools + 1)]
        # Initialisation runs layer by layer, so that a summary sees each layer.
        patched = choose_form(self.form) == "patches" and not self.is_initializing()

        def convolve(x: Array) -> Array:
            for convolution, pool in itertools.zip_longest(convolutions, pools):
                x = pool(convolution(x)) if pool and not patched else convolution(x, pool)
            return x

        def normalize(x: Array) -> Array:  # its means are those of the whole batch
            for i, (convolution, pool) in enumerate(itertools.zip_longest(convolutions, pools), 1):
                x = split_batch(convolution, x) if patched else convolution(x)
                norm = nn.BatchNorm(
                    not train, momentum=0.99, epsilon=BATCH_NORM_EPSILON, **dtypes, name=f"norm{i}"
                )
                x = activate(self.activation, norm(x))
                x = pool(x) if pool else x
            return x

        if self.batch_norm:
            x = normalize(image)
        else:
            x = split_batch(convolve, image) if patched and self.filters else convolve(image)
        x = GlobalPool(name="mean")(x) if self.global_pool else Flatten(name="flatten")(x)
        if self.dropout_rate > 0:
            x = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout")(x)
        for i, units in enumerate(self.hidden, start=1):
            x = Dense(units, "relu", **dtypes, name=f"dense{i}")(x)
        return Dense(self.num_classes, **dtypes, name="logits")(x)


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "strided": {"filters": (16, 32, 64), "strides": 2, "activation": None, "hidden": (64,)},
    "lab6": {"filters": (32, 64, 128), "num_pools": 2},
    "intro": {"filters": (32, 64, 64), "num_pools": 2, "hidden": (64,)},
    "dropout": {"filters": (32, 64), "num_pools": 2, "dropout_rate": 0.5},
    "dense": {"hidden": (512,)},
}
"""The arguments of `ConvNet` for each of the notebooks' nets, by name."""


def create_model(name: str, num_classes: int = 10, **settings: Any) -> ConvNet:
    """Creates a notebook's net by name.

    Args:
      name: `"strided"` (notebooks 000, 003), `"lab6"` (001), `"intro"` (002), `"dropout"` (004) or
        `"dense"` (001's baseline).
      num_classes: the number of classes.
      **settings: arguments of `ConvNet` that replace the notebook's.

    Raises:
      ValueError: for an unknown name or setting (the message suggests the nearest one), and for
        float64 unless JAX has 64 bits enabled.

    Example:
      >>> create_model("strided", padding="same").filters
      (16, 32, 64)
      >>> create_model("lab5")
      Traceback (most recent call last):
      ValueError: Unknown architecture 'lab5' (did you mean 'lab6'?): use one of strided, ...
    """
    check_choice("architecture", name, ARCHITECTURES)
    fields = [field for field in ConvNet.__dataclass_fields__ if field not in ("parent", "name")]
    for setting in settings:
        check_choice("setting of ConvNet", setting, fields)
    for dtype in (settings.get("dtype"), settings.get("param_dtype")):
        if dtype is not None and jax.dtypes.canonicalize_dtype(dtype) != jnp.dtype(dtype):
            raise ValueError(f'{dtype} needs jax.config.update("jax_enable_x64", True) first.')
    settings = {setting: as_hashable(value) for setting, value in settings.items()}
    return ConvNet(num_classes=num_classes, **{**ARCHITECTURES[name], **settings})


def as_hashable(value: Any) -> Any:
    """Turns lists into tuples: a model is a static argument of compiled functions.

    Example:
      >>> as_hashable([8, [2, 2]])
      (8, (2, 2))
    """
    return tuple(map(as_hashable, value)) if isinstance(value, list | tuple) else value
