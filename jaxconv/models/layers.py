"""The notebooks' nets: one Linen module, the table of its settings, and the layers in it."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from jaxconv.checks import check_choice, check_positive
from jaxconv.layers import (
    Form,
    Padding,
    Pair,
    as_pair,
    avg_pool,
    check_image,
    choose_form,
    conv,
    conv_max_pool,
    max_pool,
)
from jaxconv.patches import in_parts

Activation = str | Callable[[Array], Array] | None

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": nn.elu,
    "linear": lambda x: x,
    "relu": nn.relu,
    "selu": nn.selu,
    "sigmoid": nn.sigmoid,
    "silu": nn.silu,
    "softplus": nn.softplus,
    "tanh": nn.tanh,
}


class ConvNet(nn.Module):
    """Convolutions, the first of them followed by pooling; flatten; dropout; dense layers; logits.

    Every net of the notebooks is a setting of this module (see `create_model`). The input channels
    follow the data. Softmax is not part of it: `predict` applies it, the losses contain it. To
    capture what each layer gives, use `feature_maps`, or `form="xla"`: the patches form joins
    pooling to convolution, and runs the convolutions of large batches in four parts.

    Args:
      num_classes: the number of logits.
      filters: the filters of each convolution.
      num_pools: how many of the convolutions, from the first, are followed by pooling.
      hidden: the units of each dense relu layer between the flattened features and the logits.
      dropout_rate: the share of flattened features that dropout zeroes in training; no such layer
        at 0.
      kernel_size, strides, padding, activation: of every convolution, as in `Conv`.
      pool, pool_size, pool_strides, pool_padding: of every pooling layer, as in `Pool`.
      form: `"patches"`, `"xla"` or None for the backend's own (see `layers`).
      dtype: what the layers compute in.
      param_dtype: what the parameters are kept in.

    Example:
      >>> import jax
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
    form: Form | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch classes"]:
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        if not 0 <= self.dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), not {self.dropout_rate!r}.")
        if not 0 <= self.num_pools <= len(self.filters):
            raise ValueError(
                f"num_pools must be 0 to {len(self.filters)}, the number of convolutions, not "
                f"{self.num_pools!r}."
            )
        convolutions = [
            Conv(
                filters,
                self.kernel_size,
                self.strides,
                self.padding,
                self.activation,
                self.form,
                **dtypes,
                name=f"conv{i}",
            )
            for i, filters in enumerate(self.filters, start=1)
        ]
        pools = [
            Pool(
                self.pool,
                self.pool_size,
                self.pool_strides,
                self.pool_padding,
                self.form,
                name=f"pool{i}",
            )
            for i in range(1, self.num_pools + 1)
        ]

        # Layer by layer where the parameters are made: that is what a summary looks at.
        patched = choose_form(self.form) == "patches" and not self.is_initializing()

        def convolve(x: Array) -> Array:
            for convolution, pool in itertools.zip_longest(convolutions, pools):
                x = pool(convolution(x)) if pool and not patched else convolution(x, pool)
            return x

        x = in_parts(convolve, image) if patched and self.filters else convolve(image)
        x = Flatten(name="flatten")(x)
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
"""The notebooks' nets by name, as arguments of `ConvNet`."""


def create_model(name: str, num_classes: int = 10, **settings: Any) -> ConvNet:
    """A notebook's net by name.

    Args:
      name: `"strided"` (notebooks 000, 003), `"lab6"` (001), `"intro"` (002), `"dropout"` (004) or
        `"dense"` (001's baseline).
      num_classes: the number of classes.
      **settings: any argument of `ConvNet`, to depart from the notebook.

    Raises:
      ValueError: for an unknown name or setting (the message has the nearest match), and for
        float64 while JAX has 64 bits switched off.

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
    settings = {setting: _hashable(value) for setting, value in settings.items()}
    return ConvNet(num_classes=num_classes, **{**ARCHITECTURES[name], **settings})


class Conv(nn.Module):
    """Convolution, bias and activation, as Keras' ``Conv2D`` (glorot-uniform kernel, zero bias).

    The arguments are those of ``conv``; the parameters are ``kernel`` (HWIO) and ``bias``. Called
    with a ``Pool``, it pools as well; in the patches form bias and relu follow max-pooling then,
    where there are fewer numbers. Neither reverses an order, so that the maximum stays the same
    (where adding the bias rounds two cells to the same number, the larger one gets the gradient,
    not the first). Summaries of a net that does so show one layer.

    Example:
      >>> import jax
      >>> layer = Conv(32, activation="relu")
      >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 28, 28, 1)))
      >>> jax.tree.map(jnp.shape, variables["params"])
      {'bias': (32,), 'kernel': (3, 3, 1, 32)}
    """

    filters: int
    kernel_size: Pair = 3
    strides: Pair = 1
    padding: Padding = "valid"
    activation: Activation = None
    form: Form | None = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, image: Float[Array, "batch height width channels"], pool: "Pool | None" = None
    ) -> Float[Array, "batch out_height out_width filters"]:
        with _named(self):
            check_image(image)
        check_positive("filters", self.filters)
        shape = (*as_pair("kernel_size", self.kernel_size), image.shape[-1], self.filters)
        _check_inputs(self, image.shape[-1], "channels")
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.filters,), self.param_dtype)
        image, kernel, bias = promote_dtype(image, kernel, bias, dtype=self.dtype)
        settings: Any = {"strides": self.strides, "padding": self.padding, "form": self.form}
        commutes = self.activation in (None, "linear", "relu", nn.relu)
        if pool and pool.tiles and commutes and choose_form(self.form) == "patches":
            with _named(self):
                maps = conv_max_pool(image, kernel, pool.window, **settings)
            return activate(self.activation, maps + bias)
        with _named(self):
            maps = conv(image, kernel, **settings)
        maps = activate(self.activation, maps + bias)
        return pool(maps) if pool else maps


class Pool(nn.Module):
    """Pooling as a layer, so that summaries show it. The arguments are those of ``max_pool``.

    ``kind`` is ``"max"`` or ``"avg"``.

    Example:
      >>> Pool("avg").apply({}, jnp.ones((1, 5, 5, 3))).shape
      (1, 2, 2, 3)
    """

    kind: str = "max"
    window: Pair = 2
    strides: Pair | None = None
    padding: Padding = "valid"
    form: Form | None = None

    @property
    def tiles(self) -> bool:
        """Whether it takes maxima of windows side by side, without padding, as patches."""
        with _named(self):
            window = as_pair("window", self.window)
            strides = window if self.strides is None else as_pair("strides", self.strides)
            plain = self.kind == "max" and choose_form(self.form) == "patches"
        unpadded = str(self.padding).lower() == "valid" or self.padding in (0, (0, 0))
        return plain and strides == window and unpadded

    def __call__(
        self, image: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch out_height out_width channels"]:
        kinds = {"max": max_pool, "avg": avg_pool}
        check_choice("kind of pooling", self.kind, kinds)
        with _named(self):
            return kinds[self.kind](
                image, self.window, strides=self.strides, padding=self.padding, form=self.form
            )


class Flatten(nn.Module):
    """Joins all axes but the batch, row by row and channels last, as Keras' ``Flatten``.

    Example:
      >>> Flatten().apply({}, jnp.ones((2, 3, 3, 64))).shape
      (2, 576)
    """

    def __call__(self, x: Shaped[Array, "batch ..."]) -> Shaped[Array, "batch features"]:
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class Dense(nn.Module):
    """Dense layer, bias and activation, as Keras' ``Dense`` (glorot-uniform kernel, zero bias).

    Example:
      >>> import jax
      >>> layer = Dense(10)
      >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 64)))
      >>> jax.tree.map(jnp.shape, variables["params"])
      {'bias': (10,), 'kernel': (64, 10)}
    """

    units: int
    activation: Activation = None
    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch features"]) -> Float[Array, "batch units"]:
        check_positive("units", self.units)
        shape = (x.shape[-1], self.units)
        _check_inputs(self, x.shape[-1], "features")
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.units,), self.param_dtype)
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        return activate(self.activation, x @ kernel + bias)


def activate(activation: Activation, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Applies an activation given by name, as a function, or as ``None`` for the identity.

    Raises:
      ValueError: if the name is not one of ``ACTIVATIONS``.

    Example:
      >>> activate("relu", jnp.array([-1.0, 2.0]))
      Array([0., 2.], dtype=float32)
    """
    if callable(activation):
        return activation(x)
    name = "linear" if activation is None else activation
    check_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name](x)


@contextlib.contextmanager
def _named(layer: nn.Module) -> Iterator[None]:
    """Puts the layer's name in front of what is wrong with its input."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Layer {layer.name or type(layer).__name__!r}: {error}") from None


def _check_inputs(layer: nn.Module, count: int, what: str) -> None:
    """Refuses inputs that parameters given to `apply` are not for, in words that say what to do."""
    if layer.has_variable("params", "kernel"):
        expected = jnp.shape(layer.get_variable("params", "kernel"))[-2]
        if expected != count:
            raise ValueError(
                f"Layer {layer.name or type(layer).__name__!r}: the input has {count} {what}, and "
                f"the parameters are for {expected}: create them with the input_shape of the data."
            )


def _hashable(value: Any) -> Any:
    """Lists as tuples: a model is a static argument of compiled functions."""
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value
