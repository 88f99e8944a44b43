"""`explain`: the formula behind each figure of a model of windows and dense layers."""

import math
from collections.abc import Sequence
from typing import Any

from jaxconv.inspection._printing import printable
from jaxconv.inspection.arithmetic import effective_kernel_size, explicit_padding, output_size
from jaxconv.inspection.receptive_field import ReceptiveField, receptive_field
from jaxconv.inspection.summary import LayerRow, total_text, trace_layers
from jaxconv.models.forward import Model


def explain(model: Model, input_shape: Sequence[int]) -> None:
    """Prints the formulas behind the figures of a model of windows and dense layers.

    Windows are convolutions and pooling. Their receptive field says how many pixels of the image
    one output sees, and how far apart the fields of two neighbours begin; after a function that is
    no layer and keeps the shape, it holds "if positions are kept". A layer of another kind, or with
    other figures than the formulas give, is listed with its shapes and parameters alone.

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
      ...
      Params: 160 + 4,640 + 18,496 + 16,448 + 650 = 40,394
      Multiply-adds a sample: 24,336 + 165,888 + 73,728 + 16,384 + 640 = 280,976

    Source: notebooks 000 and 003 of "Convolutions in Practice" (size and parameters)
    """
    rows, _ = trace_layers(model, input_shape)
    print(f"{type(model).__name__} for inputs of {tuple(input_shape)}\n")
    shapes = [tuple(input_shape), *(row.output_shape for row in rows)]
    # The fields along the axes of the image and of each output, `()` if unknown, and their note.
    known: list[Any] = [([ReceptiveField()] * (len(input_shape) - 1), "")]
    for row in rows:
        sources = sorted(row.origin.layers)
        fields, note = known[sources[0] + 1] if len(sources) == 1 else ((), "")
        if len(sources) == 1 and not row.origin.direct:  # a function made the input
            kept = row.input_shape == shapes[sources[0] + 1]
            fields, note = fields if kept else (), ", if positions are kept"
        windows = _windows(row)
        head = f"{row.name} ({row.kind}): {row.input_shape} → {row.output_shape}"
        lines = [head, *_formulas(row, windows)]
        if len(sources) > 1:
            names = ["the image", *(row.name for row in rows)]
            joined = ", ".join(names[source + 1] for source in sources)
            lines.append(f"receptive field: not computed, since the input joins {joined}")
        if windows and fields:
            texts, fields = zip(*map(_field, windows, fields), strict=True)
            lines.append(f"receptive field: {'; '.join(dict.fromkeys(texts))}{note}")
        elif row.kind not in ("BatchNorm", "Dropout"):
            fields = ()
        known.append((fields, note))
        print(printable("\n  ".join(lines)), end="\n\n")
    print("Params:", _sum([row.params for row in rows]))
    print("Multiply-adds a sample:", _sum([row.macs for row in rows]))


def _windows(row: LayerRow) -> list[tuple[Any, ...]]:
    """The arguments of `output_size` along each axis, `[]` if they do not give the output."""
    count, given, kernel = len(row.input_shape) - 1, row.fields, row.arrays.get("kernel")
    if row.kind not in ("Conv", "Pool") or (kernel and len(kernel) != count + 2):
        return []  # `nn.Conv` with a one-dimensional kernel convolves along the last axis alone
    window = given.get("kernel_size", given.get("window"))
    strides = given.get("strides") or (window if row.kind == "Pool" else 1)
    columns = (window, strides, given.get("padding", "valid"), given.get("kernel_dilation") or 1)
    try:
        each = [(x,) * count if isinstance(x, int | str) else x for x in columns]
        windows = list(zip(row.input_shape[:-1], *each, strict=True))
        fits = tuple(output_size(*window) for window in windows) == row.output_shape[:-1]
    except (TypeError, ValueError):  # a padding such as "circular", a layer of the same name
        return []
    return windows if fits else []


def _formulas(row: LayerRow, windows: Sequence[tuple[Any, ...]]) -> list[str]:
    sizes = dict.fromkeys(_size(*window) for window in windows)  # equal axes share one text
    lines = [f"size: {'; '.join(sizes)}"] if sizes else []
    if row.kind == "Flatten" and row.output_shape == (math.prod(row.input_shape),):
        lines.append(f"size: {_product(row.input_shape)} = {row.output_shape[0]:,}")
    if row.kind == "GlobalPool" and row.output_shape == row.input_shape[-1:]:
        lines.append(f"size: means over {_product(row.input_shape[:-1])} positions")
    if row.kind == "BatchNorm" and row.params == len(row.arrays) * row.input_shape[-1]:
        names = ", ".join(row.arrays)
        return [
            *lines,
            f"params: {len(row.arrays)}·{row.input_shape[-1]} = {row.params:,} ({names})",
        ]
    kernel, positions = row.arrays.get("kernel", ()), _product(row.output_shape[:-1])
    shapes = {"kernel": kernel, "bias": kernel[-1:]}.items()
    if not row.macs or not (windows or row.kind == "Dense") or not row.arrays.items() <= shapes:
        return [*lines, f"params: {row.params:,}"] if row.arrays else lines
    inputs = _product(kernel[:-1]) if "bias" not in row.arrays else f"({_product(kernel[:-1])} + 1)"
    params = f"{inputs}·{kernel[-1]} = {row.params:,}" if row.params else "those of its first call"
    macs = f"{_product(kernel)}{f' · {positions} positions' if positions else ''} = {row.macs:,}"
    return [*lines, f"params: {params}", f"multiply-adds: {macs}"]


def _size(size: int, kernel: int, stride: int, padding: Any, dilation: int) -> str:
    before, after = explicit_padding(size, kernel, stride, padding, dilation)
    result = output_size(size, kernel, stride, padding, dilation)
    if str(padding).lower() == "same":
        return f"ceil({size} / {stride}) = {result}, with {before} + {after} zeros added"
    zeros = f" + {before} + {after}" if before or after else ""
    extent = str(kernel) if dilation == 1 else f"({dilation}·({kernel} - 1) + 1)"
    return f"floor(({size}{zeros} - {extent}) / {stride}) + 1 = {result}"


def _field(window: tuple[Any, ...], field: ReceptiveField) -> tuple[str, ReceptiveField]:
    _, kernel, stride, _, dilation = window
    after = receptive_field([(kernel, stride, explicit_padding(*window)[0], dilation)], field)
    extent = effective_kernel_size(kernel, dilation)
    size = f"{field.size} + ({extent} - 1)·{field.step} = {after.size} pixels"
    return f"{size}, {field.step}·{stride} = {after.step} apart", after


def _product(numbers: Sequence[int]) -> str:
    return "·".join(map(str, numbers))


def _sum(numbers: Sequence[int | None]) -> str:
    terms, total = [f"{n:,}" for n in numbers if n], total_text(numbers)
    return f"{' + '.join(terms)} = {total}" if len(terms) > 1 else total
