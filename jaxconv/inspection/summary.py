"""`summary`: the table of a model's layers that Keras users know."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxconv.inspection.arithmetic import macs
from jaxconv.models.forward import Model, as_linen, call_arguments, model_dtype

_OWN_FIELDS = ("name", "parent")


class LayerRow(NamedTuple):
    """One layer of a model, as it ran on one sample."""

    path: tuple[str, ...]
    """The names that lead to it, also in the parameters' tree; `()` is the model itself."""
    kind: str
    """The name of its class."""
    output_shape: tuple[int, ...]
    """The shape of its output, without the batch."""
    params: int
    """How many parameters and running statistics the layer itself holds."""
    macs: int
    """Multiply-adds on one sample: for dense layers and convolutions the kernel's size times the
    positions that it is applied at (a convolution called together with a pooling counts those that
    the pooling leaves), for other layers 0."""
    input_shape: tuple[int, ...] = ()
    """The shape of its first argument, without the batch."""
    arrays: Mapping[str, tuple[int, ...]] = {}
    """The shapes of its parameters and running statistics."""
    fields: Mapping[str, Any] = {}
    """The module's fields."""
    source: int | None = None
    """The row whose output is its input, -1 for the image; None if something else made it."""

    @property
    def name(self) -> str:
        return "/".join(self.path) or self.kind


def layer_rows(model: Model, input_shape: Sequence[int]) -> list[LayerRow]:
    """The layers of any Linen classifier, in the order in which they run.

    JAX traces the model on abstract values, so nothing is computed. A module counts as a layer if
    it holds parameters of its own or calls no other module.

    Args:
      model: a Linen module that takes a batch of images.
      input_shape: the shape of one image, `(height, width, channels)`.

    Returns:
      One row for each call of a layer; parameters count at the first call only.

    Raises:
      ValueError: if the images do not fit the model.

    Example:
      >>> import jaxconv
      >>> layer_rows(jaxconv.create_model("strided"), (28, 28, 1))[1]
      LayerRow(path=('conv2',), kind='Conv', output_shape=(6, 6, 32), params=4640, ...)
    """
    return trace_layers(model, input_shape)[0]


def summary(model: Model, input_shape: Sequence[int]) -> None:
    """Prints layers, output shapes, parameters, multiply-adds a sample, and the totals.

    Args and errors as in `layer_rows`.

    Example:
      >>> import jaxconv
      >>> summary(jaxconv.create_model("strided"), (28, 28, 1))
      ConvNet for inputs of (28, 28, 1)
      ────────────────────────────────────────────────────────────────
      Layer              Output shape          Params    Multiply-adds
      ────────────────────────────────────────────────────────────────
      conv1 (Conv)       (None, 13, 13, 16)       160           24,336
      conv2 (Conv)       (None, 6, 6, 32)       4,640          165,888
      conv3 (Conv)       (None, 2, 2, 64)      18,496           73,728
      flatten (Flatten)  (None, 256)                0                0
      dense1 (Dense)     (None, 64)            16,448           16,384
      logits (Dense)     (None, 10)               650              640
      ────────────────────────────────────────────────────────────────
      Total params: 40,394 (157.79 KiB)
      Trainable params: 40,394
      Non-trainable params: 0
      Multiply-adds a sample: 280,976

    Source: https://keras.io/api/models/model/ (summary)
    """
    rows, variables = trace_layers(model, input_shape)
    header, *lines = _table(rows)
    rule = "─" * len(header)
    trainable = jax.tree.leaves(variables.get("params", {}))
    everything = jax.tree.leaves(variables)
    total, learned = (sum(x.size for x in leaves) for leaves in (everything, trainable))
    size = sum(x.size * x.dtype.itemsize for x in everything)
    print(f"{getattr(model, '__name__', type(model).__name__)} for inputs of {tuple(input_shape)}")
    print(rule, header, rule, *lines, rule, sep="\n")
    print(f"Total params: {total:,} ({_bytes(size)})")
    print(f"Trainable params: {learned:,}")
    print(f"Non-trainable params: {total - learned:,}")
    print(f"Multiply-adds a sample: {sum(row.macs for row in rows):,}")


def _table(rows: Sequence[LayerRow]) -> list[str]:
    """The lines of the table in columns, its header first."""
    cells = [("Layer", "Output shape", "Params", "Multiply-adds")]
    for row in rows:
        shape = f"(None, {', '.join(map(str, row.output_shape))})"
        cells.append((f"{row.name} ({row.kind})", shape, f"{row.params:,}", f"{row.macs:,}"))
    first, second, third, fourth = (max(map(len, column)) for column in zip(*cells, strict=True))
    return [
        f"{a:<{first}}  {b:<{second}}  {c:>{third + 2}}  {d:>{fourth + 2}}" for a, b, c, d in cells
    ]


def trace_layers(
    model: Model, input_shape: Sequence[int]
) -> tuple[list[LayerRow], Mapping[str, Any]]:
    """Traces a model on abstract values.

    Args and errors as in `layer_rows`.

    Returns:
      The rows of `layer_rows`, and all variables by collection, as shapes and dtypes.

    Example:
      >>> import jaxconv
      >>> rows, variables = trace_layers(jaxconv.create_model("dense"), (28, 28, 1))
      >>> variables["params"][rows[1].name]["kernel"].shape
      (784, 512)
    """
    image, calls, variables = _record_calls(model, input_shape)
    callers = {call.path[:depth] for call in calls for depth in range(len(call.path))}
    rows, seen, made = [], set(), [(image, -1)]
    for module, path, argument, output in calls:
        arrays = _own(variables, path)
        own = [] if path in seen else arrays
        seen.add(path)
        if not own and path in callers:
            continue
        output_shape = jnp.shape(output)[1:]
        kernels = [x.shape for name, x in arrays if name == "kernel"]
        fields = [field.name for field in dataclasses.fields(module)]  # pyright: ignore
        source = next((n for x, n in made if x is argument and x is not None), None)
        made.append((output, len(rows)))
        rows.append(
            LayerRow(
                path=path,
                kind=type(module).__name__,
                output_shape=output_shape,
                params=sum(x.size for _, x in own),
                macs=sum(_layer_macs(module, shape, output_shape) for shape in kernels),
                input_shape=jnp.shape(argument)[1:],
                arrays={name: x.shape for name, x in arrays},
                fields={x: getattr(module, x) for x in fields if x not in _OWN_FIELDS},
                source=source,
            )
        )
    return rows, variables


class _Call(NamedTuple):
    """A call of a module, in the trace of a model."""

    module: nn.Module
    path: tuple[str, ...]
    argument: Any
    """Its first array, a tracer."""
    output: Any


def _record_calls(
    model: Model, input_shape: Sequence[int]
) -> tuple[Any, list[_Call], Mapping[str, Any]]:
    """The images' tracer, the calls of all modules as they end, and the model's variables."""
    calls: list[_Call] = []

    def record(next_function, args, kwargs, context):
        module, argument = context.module, _first((args, kwargs))
        output = next_function(*args, **kwargs)
        if context.method_name == "__call__":
            calls.append(_Call(module, module.path, argument, _first(output)))
        return output

    def init(image):
        rngs = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
        return net.init(rngs, image, **call_arguments(net, train=False))

    net = as_linen(model)
    image = jax.ShapeDtypeStruct((1, *input_shape), model_dtype(net))
    with nn.intercept_methods(record):
        variables = jax.eval_shape(init, image)
    return calls[-1].argument, calls, nn.unbox(variables)  # the model's own call ends last


def _first(tree: Any) -> Any:
    """The first array among a module's arguments or outputs that is not a scalar."""
    return next((x for x in jax.tree.leaves(tree) if getattr(x, "ndim", 0)), None)


def _layer_macs(module: nn.Module, kernel: tuple[int, ...], output: tuple[int, ...]) -> int:
    """The multiply-adds of a plain product or convolution; 0 for any other layer."""
    plain = len(kernel) == 2 or type(module).__name__ == "Conv"
    return macs(kernel, output) if plain and output[-1:] == kernel[-1:] else 0


def _own(
    variables: Mapping[str, Any], path: tuple[str, ...]
) -> list[tuple[str, jax.ShapeDtypeStruct]]:
    """The variables that the module at this path holds itself, from all collections."""
    found = []
    for tree in variables.values():
        for key in path:
            tree = tree.get(key, {})
        found += [(name, x) for name, x in tree.items() if not isinstance(x, Mapping)]
    return found


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"
