"""Gradients that pass backwards through a deep net, and linear convolutions that collapse into one.

Pure functions; `python experiments/lessons/activations.py` runs and draws them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxconv.models import ACTIVATIONS
from jaxconv.training import sparse_categorical_crossentropy

Kernels = list[jax.Array]
Curve = tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]
GLOROT = jax.nn.initializers.glorot_uniform()
NETS = {  # activation, initializer and scale of the hidden kernels
    "sigmoid": ("sigmoid", GLOROT, 1.0),
    "tanh": ("tanh", GLOROT, 1.0),
    "relu_glorot": ("relu", GLOROT, 1.0),
    "relu_he": ("relu", jax.nn.initializers.he_normal(), 1.0),
    "relu_large": ("relu", GLOROT, 3.0),
}
MAX_DERIVATIVE = {"sigmoid": 0.25, "tanh": 1.0, "relu": 1.0}
"""The largest derivative of each activation."""


def values_and_derivatives(
    function: Callable[[Any], Any], x: Float[np.ndarray, " points"]
) -> Curve:
    """Computes a scalar function and its derivative at each x."""
    values, derivatives = jax.vmap(jax.value_and_grad(function))(jnp.asarray(x))
    return np.asarray(values), np.asarray(derivatives)


def activation_curves() -> dict[str, tuple[Float[np.ndarray, " points"], Curve]]:
    """Maps each activation to x, and its values and derivatives there.

    Softmax takes the vector (x, 0, 0), and its curve is the first component.
    """
    x = np.linspace(-6, 6, 241)
    functions = {name: ACTIVATIONS[name] for name in ("sigmoid", "tanh", "relu")}
    functions["softmax"] = lambda x: jax.nn.softmax(jnp.stack([x, 0 * x, 0 * x]))[0]
    return {name: (x, values_and_derivatives(function, x)) for name, function in functions.items()}


def deep_kernels(
    seed: int, depth: int, width: int, inputs: int, classes: int, initializer: Any, scale: float = 1
) -> Kernels:
    """Draws the kernels of a dense net.

    Args:
      seed: of the root key.
      depth: how many hidden layers the net has.
      width: the units of each.
      inputs: the features of the input.
      classes: the units of the logits.
      initializer: one of JAX's.
      scale: multiplies the kernels of the hidden layers.

    Returns:
      The kernels of the hidden layers, and last that of the logits.
    """
    sizes = [inputs, *[width] * depth, classes]
    keys = jax.random.split(jax.random.key(seed), depth + 1)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    *hidden, last = (initializer(key, (rows, columns)) for key, rows, columns in pairs)
    return [scale * kernel for kernel in hidden] + [last]


def gradient_norms(
    kernels: Kernels, activation: str, x: Float[Any, "batch features"], label: Int[Any, " batch"]
) -> Float[np.ndarray, " depth"]:
    r"""The norm of the loss's gradient with respect to the activations of each hidden layer.

    The activations of layer l are :math:`h_l = f(h_{l-1} W_l)`, without biases. The loss is the
    mean crossentropy of a batch.

    Args:
      kernels: those of the hidden layers, and last that of the logits.
      activation: that of the hidden layers, a name in `ACTIVATIONS`.
      x: the inputs.
      label: the classes, integers.

    Returns:
      The Frobenius norm over the batch, from the first hidden layer to the last.
    """
    *hidden, last = kernels
    x, label = jnp.asarray(x), jnp.asarray(label)

    def loss_fn(shifts: list[jax.Array]) -> Float[Array, ""]:
        h = x
        for kernel, shift in zip(hidden, shifts, strict=True):
            h = ACTIVATIONS[activation](h @ kernel) + shift
        return sparse_categorical_crossentropy(h @ last, label).mean()

    zeros = [jnp.zeros((len(x), kernel.shape[1])) for kernel in hidden]
    grads = jax.jit(jax.grad(loss_fn))(zeros)
    return np.asarray([np.linalg.norm(np.asarray(g, np.float64)) for g in grads])  # no underflow


def gradient_bound(
    kernels: Kernels, activation: str, last_norm: float
) -> Float[np.ndarray, " depth"]:
    r"""The upper bound of `gradient_norms`, given the norm at the last hidden layer.

    Backwards, :math:`g_{l-1} = (g_l ⊙ f'(z_l)) W_l^T`, so that
    :math:`‖g_{l-1}‖ ≤ \max |f'| · ‖W_l‖_2 · ‖g_l‖`.
    """
    bound = [last_norm]
    for kernel in kernels[-2:0:-1]:
        bound.append(bound[-1] * MAX_DERIVATIVE[activation] * float(jnp.linalg.norm(kernel, 2)))
    return np.asarray(bound[::-1])


def factor_per_layer(norms: Float[np.ndarray, " depth"]) -> float:
    """The factor by which one layer multiplies the norm backwards, the geometric mean of all.

    Example:
      >>> factor_per_layer(np.array([2.0, 4.0, 8.0]))
      0.5
    """
    return float((norms[0] / norms[-1]) ** (1 / (len(norms) - 1)))


def deep_gradients(
    seed: int,
    depth: int,
    width: int,
    x: Float[np.ndarray, "batch features"],
    label: Int[np.ndarray, " batch"],
    classes: int,
) -> dict[str, Any]:
    """Measures `gradient_norms` and `factor_per_layer` of all `NETS` at initialisation.

    The result has sigmoid's bound too, and the largest share of it that the norms reach.
    """
    result: dict[str, Any] = {}
    for name, (activation, initializer, scale) in NETS.items():
        kernels = deep_kernels(seed, depth, width, x.shape[1], classes, initializer, scale)
        norms = gradient_norms(kernels, activation, x, label)
        result |= {f"{name}_norms": norms.tolist(), f"{name}_factor": factor_per_layer(norms)}
        if name == "sigmoid":
            bound = gradient_bound(kernels, name, norms[-1])
            share = norms[:-1] / bound[:-1]  # at the last layer it is 1
            result["sigmoid_bound"] = bound.tolist()
            result["sigmoid_bound_factor"] = factor_per_layer(bound)
            result["sigmoid_largest_share_of_bound"] = float(share.max())
    return result


def collapse(layers: Sequence[tuple[Any, Any]], stride: int) -> tuple[np.ndarray, np.ndarray, int]:
    r"""Collapses linear convolutions, all `valid` and of one stride, into one convolution.

    Let the layers so far equal one convolution of stride s, kernel K and bias b, and let the next
    layer have the kernel L and the bias c. Both together are

    .. math:: K'[p + s q] = \sum_{p, q} K[p] L[q], \quad b' = c + b \sum_q L[q], \quad
      s' = s · stride

    where p and q are positions (row, column), and the products are those of matrices, channels by
    filters.

    Args:
      layers: each a kernel `[height, width, channels, filters]` and a bias `[filters]`, from the
        input on.
      stride: that of each layer, for rows and columns.

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
        next_kernel, next_bias = (np.asarray(x, np.float64) for x in layer)
        if next_kernel.shape[2] != kernel.shape[3]:
            raise ValueError(
                f"A kernel of shape {next_kernel.shape} takes {next_kernel.shape[2]} channels, but "
                f"the layers before it give {kernel.shape[3]}: pass the layers in the order in "
                "which they run."
            )
        (height, width), (rows, columns) = kernel.shape[:2], next_kernel.shape[:2]
        shape = (rows - 1) * step + height, (columns - 1) * step + width
        joined = np.zeros((*shape, kernel.shape[2], next_kernel.shape[3]))
        for i, j in np.ndindex(rows, columns):
            window = slice(i * step, i * step + height), slice(j * step, j * step + width)
            joined[window] += kernel @ next_kernel[i, j]
        kernel, bias = joined, next_bias + bias @ next_kernel.sum(axis=(0, 1))
        step *= stride
    return kernel, bias, step
