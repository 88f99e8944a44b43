"""From which layers the input of each layer comes, read off the program that JAX traces.

A traced array keeps no history, and whoever holds one after its trace has leaked it. So `mark`
names the arrays that go into and out of each call inside the program, and `origins` follows them.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import PyTree

_MARK = re.compile(r"jaxconv: (into|out of) call (\d+)")


class Origin(NamedTuple):
    """What an array is made from."""

    layers: frozenset[int] = frozenset()
    """The layers whose outputs reach it by no other layer; -1 is the image."""
    direct: bool = False
    """Whether it is the output of one of them, without a function between."""


def mark(tree: PyTree, side: str, call: int) -> PyTree:
    """The same tree, with its arrays marked in the program as those `"into"` or `"out of"` a call.

    Example:
      >>> jax.make_jaxpr(lambda x: mark(x, "into", 3))(jax.numpy.ones(2)).eqns[0].params["name"]
      'jaxconv: into call 3'
    """

    def name(x: Any) -> Any:
        is_array = isinstance(x, jax.Array) and x.ndim
        return checkpoint_name(x, f"jaxconv: {side} call {call}") if is_array else x

    return jax.tree.map(name, tree)


def origins(program: Any, layer_of: Mapping[int, int]) -> dict[int, Origin]:
    """The origin of the arrays that go into each call.

    Args:
      program: the jaxpr of a model, whose one argument is the image.
      layer_of: the layer that a call is, by the call's number; a call of a module that only calls
        others is none.

    Returns:
      The origins by the calls' numbers; calls inside a loop are left out.

    Example:
      >>> def model(image):
      ...     first = mark(mark(image, "into", 0) + 1, "out of", 0)
      ...     return mark(jax.numpy.tanh(first) * image, "into", 1)
      >>> origins(jax.make_jaxpr(model)(jax.numpy.ones(2)).jaxpr, {0: 0, 1: 1})
      {0: Origin(layers=frozenset({-1}), direct=True), 1: Origin(layers=frozenset({0, -1}), ...)}
    """
    found: dict[int, Origin] = {}

    def follow(jaxpr: Any, given: list[Origin]) -> list[Origin]:
        known = dict(zip(jaxpr.invars, given, strict=True))

        def of(variables: Any) -> list[Origin]:  # a literal has a value, and no origin
            return [Origin() if hasattr(x, "val") else known.get(x, Origin()) for x in variables]

        for eqn in jaxpr.eqns:
            inputs = of(eqn.invars)
            joined = Origin(frozenset().union(*(x.layers for x in inputs)))
            outputs = [joined] * len(eqn.outvars)
            parts = _MARK.fullmatch(str(eqn.params.get("name")))
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            inner = getattr(inner, "jaxpr", inner)
            if parts:
                outputs, call = inputs, int(parts[2])
                if parts[1] == "into":
                    before = found.get(call, Origin()).layers
                    found[call] = Origin(before | inputs[0].layers, inputs[0].direct and not before)
                elif call in layer_of:
                    outputs = [Origin(frozenset({layer_of[call]}), direct=True)]
            elif inner is not None and len(inner.invars) == len(inputs):
                outputs = follow(inner, inputs)
            known.update(zip(eqn.outvars, outputs, strict=True))
        return of(jaxpr.outvars)

    follow(program, [Origin(frozenset({-1}), direct=True)])
    return found
