"""`summary`: the table of a model's layers that Keras users know."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict

from jaxconv.inspection.arithmetic import macs
from jaxconv.models.forward import Model, as_linen, call_arguments, model_dtype


class LayerRow(NamedTuple):
    """One layer of a model, as it ran on one sample, without the batch."""

    path: tuple[str, ...]
    """The names that lead to it, also in the parameters' tree; `()` is the model itself."""
    kind: str
    """The name of its class."""
    output_shape: tuple[int, ...]
    params: int
    """How many parameters and running statistics the layer itself holds."""
    macs: int | None
    """Multiply-adds: for dense layers and convolutions the kernel's size times the positions that
    it is applied at (a convolution called together with a pooling counts those that the pooling
    leaves); 0 for pooling, Flatten and Dropout; None, not counted, for layers of other kinds."""
    input_shape: tuple[int, ...] = ()
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
      ...
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
    cells = [("Layer", "Output shape", "Params", "Multiply-adds")]
    for row in rows:
        shape = f"(None, {', '.join(map(str, row.output_shape))})"
        cells.append((f"{row.name} ({row.kind})", shape, f"{row.params:,}", total_text([row.macs])))
    first, second, third, fourth = (max(map(len, column)) for column in zip(*cells, strict=True))
    header, *lines = (
        f"{a:<{first}}  {b:<{second}}  {c:>{third + 2}}  {d:>{fourth + 2}}" for a, b, c, d in cells
    )
    rule = "─" * len(header)
    everything, trainable = jax.tree.leaves(variables), jax.tree.leaves(variables.get("params", {}))
    total, learned = (sum(x.size for x in leaves) for leaves in (everything, trainable))
    size = sum(x.size * x.dtype.itemsize for x in everything)
    power = min(max(size.bit_length() - 1, 0) // 10, 3)
    memory = f"{size / 1024**power:.2f} {('B', 'KiB', 'MiB', 'GiB')[power]}"
    print(f"{getattr(model, '__name__', type(model).__name__)} for inputs of {tuple(input_shape)}")
    print(rule, header, rule, *lines, rule, sep="\n")
    print(f"Total params: {total:,} ({memory})")
    print(f"Trainable params: {learned:,}")
    print(f"Non-trainable params: {total - learned:,}")
    print(f"Multiply-adds a sample: {total_text([row.macs for row in rows])}")


def total_text(counts: Sequence[int | None]) -> str:
    """Writes the sum of layers' counts, and whether some have none.

    Example:
      >>> total_text([24_336, 640]), total_text([640, None]), total_text([None])
      ('24,976', '640 + not counted', 'not counted')
    """
    counted = [n for n in counts if n is not None]
    parts = [f"{sum(counted):,}"] if counted else []
    return " + ".join(parts + ["not counted"] * (len(counted) < len(counts)))


def trace_layers(
    model: Model, input_shape: Sequence[int]
) -> tuple[list[LayerRow], Mapping[str, Any]]:
    """The rows of `layer_rows`, and all variables by collection, as shapes and dtypes.

    Example:
      >>> import jaxconv
      >>> rows, variables = trace_layers(jaxconv.create_model("dense"), (28, 28, 1))
      >>> variables["params"][rows[1].name]["kernel"].shape
      (784, 512)
    """
    net = as_linen(model)
    calls: list[tuple[nn.Module, Any, Any]] = []  # with the first array that came in, and out

    def record(next_function, args, kwargs, context):
        output = next_function(*args, **kwargs)
        if context.method_name == "__call__":
            calls.append((context.module, _first((args, kwargs)), _first(output)))
        return output

    def init(image):
        rngs = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
        return net.init(rngs, image, **call_arguments(net, train=False))

    with nn.intercept_methods(record):
        image = jax.ShapeDtypeStruct((1, *input_shape), model_dtype(net))
        variables = nn.unbox(jax.eval_shape(init, image))
    paths = {module.path for module, *_ in calls}
    callers = {path[:depth] for path in paths for depth in range(len(path))}
    owned: dict[Any, dict[str, Any]] = {path: {} for path in paths}
    for tree in variables.values():
        for path, x in flatten_dict(tree).items():  # the innermost module that was called owns it
            depth = max(n for n in range(len(path)) if path[:n] in paths)
            owned[path[:depth]]["/".join(path[depth:])] = x
    rows, seen = [], set()
    made = [(calls[-1][1], -1)]  # the model's own call ends last; its argument is the image
    for module, argument, output in calls:
        arrays = owned[module.path]
        own = {} if module.path in seen else arrays
        seen.add(module.path)
        if not own and module.path in callers:
            continue
        source = next((row for x, row in made if x is argument and x is not None), None)
        made.append((output, len(rows)))
        kind, shape = type(module).__name__, jnp.shape(output)[1:]
        kernel = arrays["kernel"].shape if "kernel" in arrays else ()
        # Another layer with a kernel may apply it in another way.
        plain = (len(kernel) == 2 or kind == "Conv") and shape[-1:] == kernel[-1:]
        others = 0 if kind in ("Dropout", "Flatten", "Pool") else None
        fields = [x for x in module.__dataclass_fields__ if x not in ("name", "parent")]
        rows.append(
            LayerRow(
                path=module.path,
                kind=kind,
                output_shape=shape,
                params=sum(x.size for x in own.values()),
                macs=macs(kernel, shape) if plain else others,
                input_shape=jnp.shape(argument)[1:],
                arrays={name: x.shape for name, x in arrays.items()},
                fields={x: getattr(module, x) for x in fields},
                source=source,
            )
        )
    return rows, variables


def _first(tree: Any) -> Any:
    """The first array among a module's arguments or outputs that is not a scalar."""
    return next((x for x in jax.tree.leaves(tree) if getattr(x, "ndim", 0)), None)
