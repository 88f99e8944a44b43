"""How a step calls any optax transform, and what it refuses."""

import inspect
from typing import Any

import jax
import optax
from jax.errors import JAXTypeError
from jaxtyping import Array, PyTree


def check_tx(tx: object) -> None:
    """Refuses all but optax transforms.

    Example:
      >>> check_tx(optax.adam)
      Traceback (most recent call last):
      TypeError: tx must be an optax transform such as optax.adam(1e-3), not the function adam: ...
    """
    if not (hasattr(tx, "init") and hasattr(tx, "update")):
        name = getattr(tx, "__name__", None)
        given = f"the function {name}: call it" if name and callable(tx) else repr(tx)
        raise TypeError(f"tx must be an optax transform such as optax.adam(1e-3), not {given}.")


def check_opt_state(
    tx: optax.GradientTransformation, opt_state: PyTree, params: PyTree[Array]
) -> None:
    """Refuses an optimizer's state that another transform has made, if its tree differs.

    Example:
      >>> params = {"bias": jax.numpy.zeros(3)}
      >>> check_opt_state(optax.adam(0.1), optax.sgd(0.1).init(params), params)
      Traceback (most recent call last):
      ValueError: The state is of another optimizer: its opt_state is ...
    """
    own = jax.eval_shape(tx.init, params)
    if jax.tree.structure(opt_state) != jax.tree.structure(own):
        raise ValueError(
            f"The state is of another optimizer: its opt_state is {_names(opt_state)}, and this "
            f"one's is {_names(own)}. Make the state by the init of the same classifier."
        )


def update(
    tx: optax.GradientTransformation,
    grads: PyTree[Array],
    opt_state: PyTree,
    params: PyTree[Array],
    **more: Any,
) -> tuple[PyTree[Array], PyTree]:
    """The transform's update, given those of `more` that it takes.

    Raises:
      ValueError: if the transform needs more than a step has.

    Example:
      >>> params = {"bias": jax.numpy.zeros(3)}
      >>> state = optax.sgd(0.1).init(params)
      >>> update(optax.sgd(0.1), {"bias": jax.numpy.ones(3)}, state, params, value=0.5)[0]["bias"]
      Array([-0.1, -0.1, -0.1], dtype=float32)
    """
    name = getattr(tx.update, "__qualname__", "update").split(".")[0]
    tx = optax.with_extra_args_support(tx)
    taken = inspect.signature(tx.update).parameters
    if all(x.kind is not inspect.Parameter.VAR_KEYWORD for x in taken.values()):
        more = {name: x for name, x in more.items() if name in taken}
    try:
        return tx.update(grads, opt_state, params, **more)
    except JAXTypeError:  # such as a branch on a traced value; it says enough
        raise
    except (AttributeError, TypeError) as error:
        raise ValueError(
            f"The optimizer {name} fails: {error}. A step gives it the gradients, its state, one "
            "tree of parameters, value, grad and value_fn: take one that needs no more."
        ) from error


def _names(opt_state: PyTree) -> str:
    parts = jax.tree.leaves(opt_state, is_leaf=lambda x: hasattr(x, "_fields"))
    return " + ".join(type(x).__name__ for x in parts)
