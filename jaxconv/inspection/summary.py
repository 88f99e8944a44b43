"""`summary`: the table of a model's layers that Keras users know."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from flax import linen as nn
from flax.traverse_util import flatten_dict

from jaxconv._checks import check_input_shape
from jaxconv.inspection._dataflow import Origin, mark, origins
from jaxconv.inspection._printing import printable
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
    leaves); 0 for pooling, BatchNorm, Flatten and Dropout; None, not counted, for other kinds."""
    input_shape: tuple[int, ...] = ()
    arrays: Mapping[str, tuple[int, ...]] = {}
    """The shapes of its parameters and running statistics."""
    fields: Mapping[str, Any] = {}
    """The module's fields."""
    origin: Origin = Origin()
    """The rows whose outputs its input is made from; nothing if a loop hides them."""

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
    print(printable("\n".join([rule, header, rule, *lines, rule])))
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
    check_input_shape(input_shape)
    calls: list[tuple[int, LayerRow]] = []  # as they end; no arrays, which JAX would call leaked
    numbers = itertools.count()

    def record(next_function, args, kwargs, context):
        if context.method_name != "__call__":
            return next_function(*args, **kwargs)
        number, given = next(numbers), _shape((args, kwargs))
        args, kwargs = mark((args, kwargs), "into", number)
        output = next_function(*args, **kwargs)
        module, kind = context.module, type(context.module).__name__
        fields = {x: getattr(module, x) for x in module.__dataclass_fields__ if x not in _OWN}
        row = LayerRow(module.path, kind, _shape(output), 0, 0, given, {}, fields)
        calls.append((number, row))
        return mark(output, "out of", number)

    def init(image):
        rngs = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
        return net.init_with_output(rngs, image, **call_arguments(net, train=False))

    with nn.intercept_methods(record):
        image = jax.ShapeDtypeStruct((1, *input_shape), model_dtype(net))
        program, (_, variables) = jax.make_jaxpr(init, return_shape=True)(image)
    variables = nn.unbox(variables)
    paths = {row.path for _, row in calls}
    callers = {path[:depth] for path in paths for depth in range(len(path))}
    owned: dict[Any, dict[str, Any]] = {path: {} for path in paths}
    for tree in variables.values():
        for path, x in flatten_dict(tree).items():  # the innermost module that was called owns it
            depth = max(n for n in range(len(path)) if path[:n] in paths)
            owned[path[:depth]]["/".join(path[depth:])] = x
    rows, seen, row_of = [], set(), {}
    for number, row in calls:
        arrays = owned[row.path]
        own = {} if row.path in seen else arrays
        seen.add(row.path)
        if not own and row.path in callers:
            continue
        row_of[number], shape = len(rows), row.output_shape
        kernel = arrays["kernel"].shape if "kernel" in arrays else ()
        # Another layer with a kernel may apply it in another way.
        plain = (len(kernel) == 2 or row.kind == "Conv") and shape[-1:] == kernel[-1:]
        others = 0 if row.kind in _WITHOUT_PRODUCTS else None
        params, products = (
            sum(x.size for x in own.values()),
            macs(kernel, shape) if plain else others,
        )
        shapes = {name: x.shape for name, x in arrays.items()}
        rows.append(row._replace(params=params, macs=products, arrays=shapes))
    found = origins(program.jaxpr, row_of)
    for number, index in row_of.items():
        rows[index] = rows[index]._replace(origin=found.get(number, Origin()))
    return rows, variables


_WITHOUT_PRODUCTS = ("BatchNorm", "Dropout", "Flatten", "GlobalPool", "Pool")
_OWN = ("name", "parent")  # fields of every Linen module


def _shape(tree: Any) -> tuple[int, ...]:
    """The shape of a sample of the first array among a module's arguments or outputs."""
    return next((x.shape[1:] for x in jax.tree.leaves(tree) if getattr(x, "ndim", 0)), ())
