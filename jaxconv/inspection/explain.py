"""`explain`: the formula behind each figure of a model's layers."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jaxconv.inspection.arithmetic import effective_kernel_size, explicit_padding, output_size
from jaxconv.inspection.receptive_field import ReceptiveField, receptive_field
from jaxconv.inspection.summary import LayerRow, trace_layers
from jaxconv.models.forward import Model

_WINDOWED = ("Conv", "Pool")
_KEEP_POSITIONS = ("BatchNorm", "Dropout", "GroupNorm", "LayerNorm")


def explain(model: Model, input_shape: Sequence[int]) -> None:
    """Prints the formulas that give each layer's output size, parameters and multiply-adds.

    For convolutions and pooling layers it also prints the receptive field: how many pixels of the
    image one output sees, and how far apart the fields of two neighbours begin.

    It compares sizes and parameters with the model as JAX traces it, and names each figure that no
    formula gives. If a function lies between two layers, such as an activation, and keeps the
    shape, `explain` assumes that it also keeps every pixel's position and prints "if positions are
    kept".

    Args and errors as in `summary`.

    Example:
      >>> import jaxconv
      >>> explain(jaxconv.create_model("strided"), (28, 28, 1))
      ConvNet for inputs of (28, 28, 1)
      <BLANKLINE>
      conv1 (Conv): (28, 28, 1) → (13, 13, 16)
        size: floor((28 - 3) / 2) + 1 = 13
        params: (3·3·1 + 1)·16 = 160
        multiply-adds: 3·3·1·16 · 13·13 positions = 24,336
        receptive field: 1 + (3 - 1)·1 = 3 pixels, 1·2 = 2 apart
      <BLANKLINE>
      conv2 (Conv): (13, 13, 16) → (6, 6, 32)
        size: floor((13 - 3) / 2) + 1 = 6
        params: (3·3·16 + 1)·32 = 4,640
        multiply-adds: 3·3·16·32 · 6·6 positions = 165,888
        receptive field: 3 + (3 - 1)·2 = 7 pixels, 2·2 = 4 apart
      ...
      flatten (Flatten): (2, 2, 64) → (256,)
        size: 2·2·64 = 256
      <BLANKLINE>
      dense1 (Dense): (256,) → (64,)
        params: (256 + 1)·64 = 16,448
        multiply-adds: 256·64 = 16,384
      ...
      Params: 160 + 4,640 + 18,496 + 16,448 + 650 = 40,394
      Multiply-adds a sample: 24,336 + 165,888 + 73,728 + 16,384 + 640 = 280,976

    Source: notebooks 000 and 003 of "Convolutions in Practice" (the two formulas)
    """
    rows, _ = trace_layers(model, input_shape)
    print(f"{type(model).__name__} for inputs of {tuple(input_shape)}\n")
    axes = [_axes(row) for row in rows]
    for row, own, field_line in zip(rows, axes, _field_lines(rows, axes, input_shape), strict=True):
        lines = [_size_line(row, own), _params_line(row), _macs_line(row), field_line]
        print(f"{row.name} ({row.kind}): {row.input_shape} → {row.output_shape}")
        print(*(f"  {line}" for line in lines if line), sep="\n", end="\n\n")
    print("Params:", _sum([row.params for row in rows]))
    print("Multiply-adds a sample:", _sum([row.macs for row in rows]))


class _Axis(NamedTuple):
    """A convolution or a pooling along one axis."""

    size: int
    kernel: int
    stride: int
    padding: str | int | tuple[int, int]
    dilation: int


def _axes(row: LayerRow) -> list[_Axis]:
    """The spatial axes of a plain convolution or pooling layer.

    Returns:
      `[]` if the layer has no window or the formula does not reproduce its traced output shape.
    """
    if row.kind not in _WINDOWED or len(row.input_shape) < 2:
        return []
    given, count = row.fields, len(row.input_shape) - 1
    if row.kind == "Conv" and len(row.arrays.get("kernel", ())) != count + 2:
        return []  # Flax convolves along the last of the spatial axes alone
    kernel = given.get("kernel_size", given.get("window"))
    strides = given.get("strides") or (1 if row.kind == "Conv" else kernel)
    padding = given.get("padding", "valid")
    try:
        columns = (
            row.input_shape[:-1],
            _each(kernel, count),
            _each(strides, count),
            [padding] * count if isinstance(padding, str | int) else padding,
            _each(given.get("kernel_dilation") or 1, count),
        )
        axes = [_Axis(*axis) for axis in zip(*columns, strict=True)]
        known = tuple(output_size(*axis) for axis in axes) == row.output_shape[:-1]
    except (TypeError, ValueError):  # a padding such as "circular", a layer of the same name
        return []
    return axes if known else []


def _each(value: Any, count: int) -> tuple[int, ...]:
    return (value,) * count if isinstance(value, int) else tuple(value)


def _size_line(row: LayerRow, axes: Sequence[_Axis]) -> str | None:
    if axes:
        return f"size: {_once([_size(*axis) for axis in axes])}"
    if row.kind in _WINDOWED:
        return "size: not explained, because the layer is not a plain window"
    if row.kind == "Flatten" and row.output_shape == (math.prod(row.input_shape),):
        return f"size: {_product(row.input_shape)} = {row.output_shape[0]:,}"
    return None


def _size(n: int, kernel: int, stride: int, padding: Any, dilation: int) -> str:
    before, after = explicit_padding(n, kernel, stride, padding, dilation)
    result = output_size(n, kernel, stride, padding, dilation)
    if str(padding).lower() == "same":
        return f"ceil({n} / {stride}) = {result}, with {before} + {after} zeros added"
    zeros = f" + {before} + {after}" if before or after else ""
    extent = str(kernel) if dilation == 1 else f"({dilation}·({kernel} - 1) + 1)"
    return f"floor(({n}{zeros} - {extent}) / {stride}) + 1 = {result}"


def _params_line(row: LayerRow) -> str | None:
    if not row.arrays:
        return None
    if not row.params:
        return "params: those of its first call"
    kernel, bias = row.arrays.get("kernel"), row.arrays.get("bias")
    if kernel and {*row.arrays} <= {"kernel", "bias"} and (bias is None or bias == kernel[-1:]):
        inputs = _product(kernel[:-1])
        return f"params: {f'({inputs} + 1)' if bias else inputs}·{kernel[-1]} = {row.params:,}"
    parts = [f"{_product(shape) or 1} ({name})" for name, shape in row.arrays.items()]
    return f"params: {' + '.join(parts)} = {row.params:,}"


def _macs_line(row: LayerRow) -> str | None:
    kernel, positions = row.arrays.get("kernel"), row.output_shape[:-1]
    if not kernel:
        return None
    if not row.macs:
        return "multiply-adds: not counted, because the layer is not a plain product or window"
    times = f" · {_product(positions)} positions" if positions else ""
    return f"multiply-adds: {_product(kernel)}{times} = {row.macs:,}"


def _field_lines(
    rows: Sequence[LayerRow], all_axes: Sequence[Sequence[_Axis]], input_shape: Sequence[int]
) -> Iterator[str | None]:
    """The line about each layer's receptive field; None if the layer has no window."""
    image = [ReceptiveField()] * (len(input_shape) - 1), ""
    # The fields of each layer's output, `[]` if unknown, and the condition under which they hold.
    seen: list[tuple[list[ReceptiveField], str]] = []
    for row, axes in zip(rows, all_axes, strict=True):
        line, fields, condition = None, [], ""
        if row.source is not None:
            fields, condition = seen[row.source] if row.source >= 0 else image
        elif seen and row.input_shape == rows[len(seen) - 1].output_shape:  # an activation, say
            fields, condition = seen[-1][0], ", if positions are kept"
        if axes and not fields:
            line = "receptive field: unknown, like that of the layer's input"
        elif axes:
            line = _field_line(axes, fields) + condition
            fields = [_field(axis, field) for axis, field in zip(axes, fields, strict=True)]
        elif row.kind not in _KEEP_POSITIONS:
            fields = []
        seen.append((fields, condition))
        yield line


def _field(axis: _Axis, field: ReceptiveField) -> ReceptiveField:
    """The receptive field of a layer's output, from that of its input."""
    before = explicit_padding(*axis)[0]
    return receptive_field([(axis.kernel, axis.stride, before, axis.dilation)], field)


def _field_line(axes: Sequence[_Axis], fields: Sequence[ReceptiveField]) -> str:
    parts = []
    for axis, old in zip(axes, fields, strict=True):
        new, extent = _field(axis, old), effective_kernel_size(axis.kernel, axis.dilation)
        size = f"{old.size} + ({extent} - 1)·{old.step} = {new.size} pixels"
        parts.append(f"{size}, {old.step}·{axis.stride} = {new.step} apart")
    return f"receptive field: {_once(parts)}"


def _once(parts: Sequence[str]) -> str:
    """One text for each axis, or a single one if all axes share it."""
    return parts[0] if len({*parts}) == 1 else "; ".join(parts)


def _product(numbers: Sequence[int]) -> str:
    return "·".join(map(str, numbers))


def _sum(numbers: Sequence[int]) -> str:
    numbers, total = [n for n in numbers if n], f"{sum(numbers):,}"
    return f"{' + '.join(f'{n:,}' for n in numbers)} = {total}" if len(numbers) > 1 else total
