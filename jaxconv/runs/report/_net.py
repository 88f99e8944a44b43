"""The parts of a run's page that show its trained net, from the arrays in `diagnostics.npz`."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxconv.runs.plots import tile_images
from jaxconv.runs.report._html import image, section, table, text

MAX_CLASSES = 30
"""The most classes for which the page shows the whole confusion matrix."""


def net_sections(
    diagnostics: Mapping[str, np.ndarray], seeds: Sequence[int], *, drawable: bool
) -> list[str]:
    """Predictions, mistakes, filters, feature maps and the summary, as sections of a page.

    Args:
      diagnostics: the arrays of `collect_diagnostics`, and `seed`, that of the net.
      seeds: all seeds of the run.
      drawable: whether matplotlib is installed, which draws the images.

    Returns:
      The sections in HTML; none without diagnostics.
    """
    if not diagnostics:
        return []
    drawn = [_mistakes(diagnostics), _filters(diagnostics), _maps(diagnostics)] if drawable else []
    return [_predictions(diagnostics, seeds), *drawn, _model(diagnostics)]


def _predictions(diagnostics: Mapping[str, np.ndarray], seeds: Sequence[int]) -> str:
    label, prediction = diagnostics["label"], diagnostics["prediction"]
    count = max(len(diagnostics["probabilities"]), int(label.max()) + 1)
    matrix = np.zeros((count, count), int)
    np.add.at(matrix, (label, prediction), 1)
    by = f" by seed {diagnostics['seed']}" if len(seeds) > 1 else ""
    right = int(matrix.trace())
    total = f"<p>{right:,} of {len(label):,} test samples are recognised{text(by)}.</p>"
    if count <= MAX_CLASSES:
        return section("Predictions", total, _matrix(matrix))
    pairs = [(n, i, j) for (i, j), n in np.ndenumerate(matrix) if i != j and n]
    rows = [[f"{i} taken for {j}", int(n)] for n, i, j in sorted(pairs, reverse=True)[:20]]
    accuracies = [[i, int(row.sum()), _share(row, i)] for i, row in enumerate(matrix)]
    caption = "The most frequent confusions"
    confused = table(rows, ["confused", "samples"], caption=caption) if rows else ""
    return section("Predictions", total, confused, table(accuracies, ["class", "samples", "right"]))


def _matrix(matrix: np.ndarray) -> str:
    """The confusion matrix, with the accuracy of each class."""
    errors = np.where(np.eye(len(matrix), dtype=bool), 0, matrix)
    most, lines = max(1, int(errors.max())), []
    for i, row in enumerate(matrix):
        cells = []
        for j, n in enumerate(row):
            share = n / max(1, row.sum()) * 0.45 if i == j else 0.12 + 0.5 * n / most
            style = f' class="{"right" if i == j else "wrong"}" style="--share: {share:.3f}"'
            cells.append(f"<td{style if n else ''}>{n or ''}</td>")
        total = f"<td>{row.sum():,}</td><td>{_share(row, i)}</td>"
        lines.append(f'<tr><th scope="row">{i}</th>{"".join(cells)}{total}</tr>')
    heads = ["label", *range(len(matrix)), "samples", "accuracy"]
    heads = "".join(f'<th scope="col">{x}</th>' for x in heads)
    caption = "<caption>Rows: the label. Columns: the prediction.</caption>"
    body = f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll"><table class="confusion">{caption}{body}</table></div>'


def _share(row: np.ndarray, column: int) -> str:
    return f"{row[column] / row.sum():.2%}" if row.any() else "none"


def _mistakes(diagnostics: Mapping[str, np.ndarray]) -> str:
    if not len(diagnostics["mistake"]):
        return section("Mistakes", "<p>None: every test sample is recognised.</p>")
    figures = []
    for index, pixels in zip(diagnostics["mistake"], diagnostics["mistake_image"], strict=True):
        label, prediction = diagnostics["label"][index], diagnostics["prediction"][index]
        caption = f"{label}, taken for {prediction} ({diagnostics['confidence'][index]:.1%})"
        alt = f"test sample {index}, {caption}"
        figures.append(image(_pixels(pixels), alt, caption=caption, scale=_scale(pixels, 112)))
    return section(
        "The most confident mistakes",
        "<p>The label, and the prediction with its probability.</p>",
        f'<div class="figures">{"".join(figures)}</div>',
    )


def _pixels(pixels: np.ndarray) -> np.ndarray:
    """An image that can be drawn: grey, or in three colours from 0 to 1."""
    if pixels.shape[-1] != 3:
        return pixels.mean(axis=-1, dtype=np.float32)
    values = pixels.astype(np.float32)
    low, high = (0, 255) if pixels.dtype == np.uint8 else (values.min(), values.max())
    return (values - low) / max(high - low, 1e-12)


def _scale(pixels: np.ndarray, width: int) -> int:
    return max(1, round(width / pixels.shape[1]))


def _filters(diagnostics: Mapping[str, np.ndarray]) -> str:
    if "filters" not in diagnostics:
        return ""
    filters = diagnostics["filters"]
    height, width, channels, count = filters.shape
    scale = max(1, min(10, 56 // width))
    columns = max(1, min(count, 16, 900 // (scale * (width + 1))))
    sheet = tile_images(filters.mean(axis=2).transpose(2, 0, 1), columns)
    name = diagnostics["filters_layer"]
    over = f", means over {channels} channels" if channels > 1 else ""
    number = _shown_of(count, int(diagnostics["filters_count"]))
    caption = f"{number} filters of {name}, {height}×{width}{over}. Red adds, blue subtracts."
    drawn = image(sheet, f"filters of {name}", caption=caption, scale=scale, signed=True)
    return section("The filters of the first layer", drawn)


def _maps(diagnostics: Mapping[str, np.ndarray]) -> str:
    names = diagnostics.get("map_layer", ())
    if not len(names):
        return ""
    first, probabilities = diagnostics["image"], diagnostics["probabilities"]
    label, prediction = diagnostics["label"][0], int(probabilities.argmax())
    outcome = f"label {label}, prediction {prediction} ({probabilities[prediction]:.1%})"
    caption = f"the first test sample: {outcome}"
    drawn = [
        "<p>The maps of a layer share one scale.</p>",
        image(_pixels(first), caption, caption=caption, scale=_scale(first, 112)),
    ]
    for i, name in enumerate(names):
        maps = diagnostics[f"map_{i}"]
        height, width, count = maps.shape
        scale = max(1, min(8, 56 // width))
        columns = max(1, min(count, 900 // (scale * (width + 1))))
        sheet = tile_images(maps.transpose(2, 0, 1), columns)
        number = _shown_of(count, int(diagnostics["map_channels"][i]))
        caption = f"{name}: {height}×{width}, {number} maps"
        signed = bool((maps < 0).any())
        caption += "; red above 0, blue below" if signed else ""
        drawn.append(image(sheet, f"maps of {name}", caption=caption, scale=scale, signed=signed))
    return section("The feature maps of one sample", *drawn)


def _shown_of(shown: int, count: int) -> str:
    """How many of a layer's filters or maps are shown."""
    return str(count) if shown == count else f"the first {shown} of {count}"


def _model(diagnostics: Mapping[str, np.ndarray]) -> str:
    params, macs = diagnostics["layer_params"], diagnostics["layer_macs"]
    columns = ("layer", "layer_kind", "layer_shape")
    rows = [
        [*map(str, row), f"{n:,}", f"{m:,}"]
        for *row, n, m in zip(*(diagnostics[name] for name in columns), params, macs, strict=True)
    ]
    rows.append(["total", "", "", f"{params.sum():,}", f"{macs.sum():,}"])
    heads = ["layer", "kind", "output shape", "params", "multiply-adds a sample"]
    return section("Model", table(rows, heads))
