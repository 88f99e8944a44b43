"""Borders that the fusions of XLA's CPU compiler do not cross; on other backends there are none."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Shaped


def no_fusion(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a pure function as a computation of its own, which XLA's fusions do not cross.

    XLA's CPU compiler fuses elementwise operations into every consumer: each of nine slices of a
    pooled image would compute the pooling anew. Transforms (grad, jvp, vmap, shardings) pass. Under
    `jax.checkpoint`, JAX cannot divide a call between values and tangents: a function with a
    gradient there needs a `custom_jvp` that calls it for each, as `apart` has. On other backends
    the function stays as it is. Call the result under `jit`: outside, JAX recompiles for every new
    function object.
    """
    if jax.default_backend() != "cpu":
        return function
    try:
        from jax.experimental.scheduling_groups import xla_metadata_call
    except ImportError:
        warnings.warn(
            "This JAX has no jax.experimental.scheduling_groups: results stay the same, but "
            "convolution and pooling are slower on the CPU.",
            RuntimeWarning,
            stacklevel=2,
        )
        return function
    return xla_metadata_call(function, inlineable="false")


@jax.custom_jvp
def apart(x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """The same array; neither its value nor its gradient fuses with what comes after.

    Example:
      >>> jax.jit(jax.grad(lambda x: apart(x) ** 2))(3.0)
      Array(6., dtype=float32, weak_type=True)
    """
    return no_fusion(_same)(x)


def _same(x: Array) -> Array:
    return x


@apart.defjvp
def _(arrays: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return apart(*arrays), apart(*tangents)  # two calls: `jax.checkpoint` divides none
