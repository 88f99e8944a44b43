"""Gradients backwards through a deep net, and linear convolutions that collapse to one.

Pure functions; `python experiments/lessons/activations.py` runs and draws them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconv.models.layers import ACTIVATIONS
from jaxconv.training.losses import sparse_categorical_crossentropy

Kernels = list[jax.Array]
GLOROT = jax.nn.initializers.glorot_uniform()
NETS = {  # activation, initializer and scale of the hidden kernels
    "sigmoid": ("sigmoid", GLOROT, 1.0),
    "tanh": ("tanh", GLOROT, 1.0),
    "relu_glorot": ("relu", GLOROT, 1.0),
    "relu_he": ("relu", jax.nn.initializers.he_normal(), 1.0),
    "relu_large": ("relu", GLOROT, 3.0),
}
STEEPEST = {"sigmoid": 0.25, "tanh": 1.0, "relu": 1.0}
"""The largest derivative of each activation."""


def curve(function: Callable[[Any], Any], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values of a scalar function at each of x, and its derivatives."""
    values, slopes = jax.vmap(jax.value_and_grad(function))(jnp.asarray(x))
    return np.asarray(values), np.asarray(slopes)


def activation_curves() -> dict[str, Any]:
    """Of each activation x, and its values and derivatives; softmax is of (x, 0, 0), the first."""
    x = np.linspace(-6, 6, 241)
    functions = {name: ACTIVATIONS[name] for name in ("sigmoid", "tanh", "relu")}
    functions["softmax"] = lambda x: jax.nn.softmax(jnp.stack([x, 0 * x, 0 * x]))[0]
    return {name: (x, curve(function, x)) for name, function in functions.items()}


def deep_kernels(
    seed: int, depth: int, width: int, inputs: int, classes: int, initializer: Any, scale: float = 1
) -> Kernels:
    """The kernels of a dense net of `depth` hidden layers; the hidden ones are scaled."""
    sizes = [inputs, *[width] * depth, classes]
    keys = jax.random.split(jax.random.key(seed), depth + 1)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    *hidden, last = (initializer(key, (rows, columns)) for key, rows, columns in pairs)
    return [scale * kernel for kernel in hidden] + [last]


def gradient_norms(kernels: Kernels, activation: str, x: Any, label: Any) -> np.ndarray:
    r"""The norm of the loss's gradient with respect to each hidden layer's activations.

    Of layer l they are :math:`h_l = f(h_{l-1} W_l)`, without biases, and the loss is the mean
    crossentropy of a batch.

    Args:
      kernels: those of the hidden layers, and last that of the logits.
      activation: of the hidden layers, a name in `ACTIVATIONS`.
      x: the inputs `[N, features]`.
      label: integers `[N]`.

    Returns:
      The Frobenius norm over the batch, from the first hidden layer to the last.
    """
    *hidden, last = kernels
    x, label = jnp.asarray(x), jnp.asarray(label)

    def loss(shifts: list[jax.Array]) -> jax.Array:
        h = x
        for kernel, shift in zip(hidden, shifts, strict=True):
            h = ACTIVATIONS[activation](h @ kernel) + shift
        return sparse_categorical_crossentropy(h @ last, label).mean()

    zeros = [jnp.zeros((len(x), kernel.shape[1])) for kernel in hidden]
    slopes = jax.jit(jax.grad(loss))(zeros)
    return np.asarray([np.linalg.norm(np.asarray(g, np.float64)) for g in slopes])  # no underflow


def gradient_bound(kernels: Kernels, activation: str, last_norm: float) -> np.ndarray:
    r"""What `gradient_norms` cannot exceed, given that of the last hidden layer.

    Backwards, :math:`g_{l-1} = (g_l ⊙ f'(z_l)) W_l^T`, so that
    :math:`‖g_{l-1}‖ ≤ \max |f'| · ‖W_l‖_2 · ‖g_l‖`.
    """
    bound = [last_norm]
    for kernel in kernels[-2:0:-1]:
        bound.append(bound[-1] * STEEPEST[activation] * float(jnp.linalg.norm(kernel, 2)))
    return np.asarray(bound[::-1])


def factor(norms: np.ndarray) -> float:
    """What one layer multiplies the norm by on its way back, the geometric mean of all."""
    return float((norms[0] / norms[-1]) ** (1 / (len(norms) - 1)))


def deep_gradients(
    seed: int, depth: int, width: int, x: np.ndarray, label: np.ndarray, classes: int
) -> dict[str, Any]:
    """`gradient_norms` and `factor` of each of `NETS` at its initialisation; sigmoid's bound."""
    result: dict[str, Any] = {}
    for name, (activation, initializer, scale) in NETS.items():
        kernels = deep_kernels(seed, depth, width, x.shape[1], classes, initializer, scale)
        norms = gradient_norms(kernels, activation, x, label)
        result |= {f"{name}_norms": norms.tolist(), f"{name}_factor": factor(norms)}
        if name == "sigmoid":
            bound = gradient_bound(kernels, name, norms[-1])
            share = norms[:-1] / bound[:-1]  # of the last layer it is 1
            result |= {"sigmoid_bound": bound.tolist(), "sigmoid_bound_factor": factor(bound)}
            result["sigmoid_largest_share_of_bound"] = float(share.max())
    return result


def collapse(layers: Sequence[tuple[Any, Any]], stride: int) -> tuple[np.ndarray, np.ndarray, int]:
    r"""The one convolution that a stack of linear ones comes to, all `valid` and of one stride.

    With s the stride of the first layers together, K their kernel and b their bias, a layer L, c
    after them gives

    .. math:: K'[p + s q] = \sum_{p, q} K[p] L[q], \quad b' = c + b \sum_q L[q], \quad
      s' = s · stride

    where p and q are rows and columns, and the products are those of matrices, channels by filters.

    Args:
      layers: each a kernel `[height, width, channels, filters]` and a bias `[filters]`, from the
        input on.
      stride: of each, for rows and columns.

    Returns:
      The kernel, the bias, and the stride, in float64.

    Raises:
      ValueError: if there is no layer, or a layer's channels are not the filters before it.

    Example:
      >>> ones = np.ones((3, 3, 1, 1)), np.zeros(1)
      >>> kernel, bias, stride = collapse([ones, ones, ones], 2)
      >>> kernel.shape, stride
      ((15, 15, 1, 1), 8)
    """
    if not layers:
        raise ValueError("There is no layer to collapse: pass one (kernel, bias) or more.")
    kernel, bias = (np.asarray(x, np.float64) for x in layers[0])
    step = stride
    for layer in layers[1:]:
        other, shift = (np.asarray(x, np.float64) for x in layer)
        if other.shape[2] != kernel.shape[3]:
            raise ValueError(
                f"A kernel of shape {other.shape} takes {other.shape[2]} channels, but the layers "
                f"before it give {kernel.shape[3]}: pass the layers in the order in which they run."
            )
        height, width = kernel.shape[:2]
        rows, columns = (other.shape[0] - 1) * step + height, (other.shape[1] - 1) * step + width
        joined = np.zeros((rows, columns, kernel.shape[2], other.shape[3]))
        for i, j in np.ndindex(other.shape[:2]):
            window = slice(i * step, i * step + height), slice(j * step, j * step + width)
            joined[window] += kernel @ other[i, j]
        kernel, bias = joined, shift + bias @ other.sum(axis=(0, 1))
        step *= stride
    return kernel, bias, step
