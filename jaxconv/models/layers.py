"""The layers of `ConvNet` as Linen modules, with Keras' names, arguments and initial values."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from jaxconv._checks import check_choice, check_positive
from jaxconv.models._arguments import Padding, Pair, as_pair, check_image
from jaxconv.models.ops import Form, avg_pool, choose_form, conv, conv_max_pool, max_pool

Activation = str | Callable[[Array], Array] | None
"""A name in `ACTIVATIONS`, a function, or None for the identity."""

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "celu": nn.celu,
    "elu": nn.elu,
    "exponential": jnp.exp,
    "gelu": functools.partial(nn.gelu, approximate=False),
    "hard_sigmoid": nn.hard_sigmoid,
    "hard_silu": nn.hard_silu,
    "hard_swish": nn.hard_swish,
    "hard_tanh": nn.hard_tanh,
    "leaky_relu": functools.partial(nn.leaky_relu, negative_slope=0.2),
    "linear": lambda x: x,
    "log_sigmoid": nn.log_sigmoid,
    "log_softmax": nn.log_softmax,
    "mish": jax.nn.mish,
    "relu": nn.relu,
    "relu6": nn.relu6,
    "selu": nn.selu,
    "sigmoid": nn.sigmoid,
    "silu": nn.silu,
    "softmax": nn.softmax,
    "softplus": nn.softplus,
    "softsign": nn.soft_sign,
    "squareplus": jax.nn.squareplus,
    "swish": nn.swish,
    "tanh": nn.tanh,
}
"""Activations by their names in Keras, with Keras' defaults: https://keras.io/api/layers/activations/"""


class Conv(nn.Module):
    """Convolution, bias and activation, as Keras' `Conv2D` (glorot-uniform kernel, zero bias).

    A call with a `Pool` pools as well, and a summary shows it as one layer. In the patches form,
    bias and relu then follow max-pooling, where there are fewer numbers. Both keep the order of
    numbers, so that the maximum stays the same (if adding the bias rounds two cells to the same
    number, the larger one gets the gradient, not the first).

    Args:
      filters: the number of filters.
      kernel_size, strides, padding, form: as in `conv`.
      activation: a name in `ACTIVATIONS`, a function, or None.
      dtype, param_dtype: the dtypes of the computation and of the parameters.
      use_bias: False where BatchNorm follows, which takes a bias away again.

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
    use_bias: bool = True

    @nn.compact
    def __call__(
        self, image: Float[Array, "batch height width channels"], pool: "Pool | None" = None
    ) -> Float[Array, "batch out_height out_width filters"]:
        commutes = self.activation in (None, "linear", "relu", nn.relu)
        joins = pool and pool.is_tiling and commutes and choose_form(self.form) == "patches"
        window = pool.window if pool and joins else None
        with _named(self):
            check_image(image)
            check_positive("filters", self.filters)
            shape = (*as_pair("kernel_size", self.kernel_size), image.shape[-1], self.filters)
            image, kernel, bias = _with_params(self, image, shape, self.use_bias)
            options: Any = {"strides": self.strides, "padding": self.padding, "form": self.form}
            if window is None:
                maps = conv(image, kernel, **options)
            else:
                maps = conv_max_pool(image, kernel, window, **options)
        maps = activate(self.activation, maps if bias is None else maps + bias)
        return pool(maps) if pool and window is None else maps


class Pool(nn.Module):
    """Pooling as a layer, so that summaries show it.

    Args:
      kind: `"max"` or `"avg"`.
      window, strides, padding, form: as in `max_pool`.

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
    def is_tiling(self) -> bool:
        """Whether it takes maxima in the patches form, of adjacent windows without padding."""
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


class GlobalPool(nn.Module):
    """The mean of each channel over all positions, as Keras' `GlobalAveragePooling2D`.

    Sums are at least float32.

    Example:
      >>> GlobalPool().apply({}, jnp.ones((2, 3, 3, 64))).shape
      (2, 64)

    Source: Lin et al., 2014, https://arxiv.org/abs/1312.4400
    """

    def __call__(
        self, image: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch channels"]:
        wide = jnp.promote_types(image.dtype, jnp.float32)
        return image.mean(axis=(1, 2), dtype=wide).astype(image.dtype)


class Flatten(nn.Module):
    """Joins all axes but the batch, row by row and channels last, as Keras' `Flatten`.

    Example:
      >>> Flatten().apply({}, jnp.ones((2, 3, 3, 64))).shape
      (2, 576)
    """

    def __call__(self, x: Shaped[Array, "batch ..."]) -> Shaped[Array, "batch features"]:
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class Dense(nn.Module):
    """Dense layer, bias and activation, as Keras' `Dense` (glorot-uniform kernel, zero bias).

    Args:
      units: the number of outputs.
      activation, dtype, param_dtype: as in `Conv`.

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
        with _named(self):
            check_positive("units", self.units)
            x, kernel, bias = _with_params(self, x, (x.shape[-1], self.units))
        return activate(self.activation, x @ kernel + bias)


def activate(activation: Activation, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Applies an activation; a ValueError suggests a name for one that is not in `ACTIVATIONS`.

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
    """Puts the layer's name in front of the message of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Layer {layer.name or type(layer).__name__!r}: {error}") from None


def _with_params(
    layer: "Conv | Dense", x: Array, shape: tuple[int, ...], use_bias: bool = True
) -> list[Any]:
    """The inputs, a kernel of this shape and a bias; refuses parameters for other inputs."""
    if layer.has_variable("params", "kernel"):
        expected = np.shape(layer.get_variable("params", "kernel"))[-2]
        if expected != shape[-2]:
            what, change = ("channels", "convert") if len(shape) == 4 else ("features", "resize")
            raise ValueError(
                f"the input has {shape[-2]} {what}, and the parameters are for {expected}: "
                f"{change} the images, or create parameters with the input_shape of the data."
            )
    kernel = layer.param("kernel", nn.initializers.glorot_uniform(), shape, layer.param_dtype)
    bias = None
    if use_bias:
        bias = layer.param("bias", nn.initializers.zeros, shape[-1:], layer.param_dtype)
        bias = bias.reshape(*[1] * (x.ndim - 1), -1)  # of the rank of what it is added to
    return promote_dtype(x, kernel, bias, dtype=layer.dtype)
