"""The parts of a run's page that show its trained net, from the arrays in `diagnostics.npz`."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxconv.runs.report._html import image, section, table, text, tiles

CLASSES = 30
"""The most classes whose confusion matrix is shown whole."""


def net_sections(
    kept: Mapping[str, np.ndarray], seeds: Sequence[int], *, drawable: bool
) -> list[str]:
    """Predictions, mistakes, filters, feature maps and the summary, as parts of a page.

    Args:
      kept: arrays as `collect_diagnostics` makes them, and `seed`, whose net it is.
      seeds: all seeds of the run.
      drawable: whether matplotlib is there to draw images.
    """
    if not kept:
        return []
    drawn = [_mistakes(kept), _filters(kept), _maps(kept)] if drawable else []
    return [_predictions(kept, seeds), *drawn, _model(kept)]


def _predictions(kept: Mapping[str, np.ndarray], seeds: Sequence[int]) -> str:
    label, prediction = kept["label"], kept["prediction"]
    count = max(len(kept["probabilities"]), int(label.max()) + 1)
    matrix = np.zeros((count, count), int)
    np.add.at(matrix, (label, prediction), 1)
    of = f" by seed {kept['seed']}" if len(seeds) > 1 else ""
    right = int(matrix.trace())
    said = f"<p>{right:,} of {len(label):,} test samples are recognised{text(of)}.</p>"
    if count <= CLASSES:
        return section("Predictions", said, _matrix(matrix))
    pairs = [(n, i, j) for (i, j), n in np.ndenumerate(matrix) if i != j and n]
    rows = [[f"{i} taken for {j}", int(n)] for n, i, j in sorted(pairs, reverse=True)[:20]]
    accuracies = [[i, int(row.sum()), _share(row, i)] for i, row in enumerate(matrix)]
    caption = "The most frequent confusions"
    confused = table(rows, ["confused", "samples"], caption=caption) if rows else ""
    return section("Predictions", said, confused, table(accuracies, ["class", "samples", "right"]))


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


def _share(row: np.ndarray, place: int) -> str:
    return f"{row[place] / row.sum():.2%}" if row.any() else "none"


def _mistakes(kept: Mapping[str, np.ndarray]) -> str:
    if not len(kept["mistake"]):
        return section("Mistakes", "<p>None: every test sample is recognised.</p>")
    figures = []
    for place, pixels in zip(kept["mistake"], kept["mistake_image"], strict=True):
        label, prediction = kept["label"][place], kept["prediction"][place]
        caption = f"{label}, taken for {prediction} ({kept['confidence'][place]:.1%})"
        alt = f"test sample {place}, {caption}"
        figures.append(image(_pixels(pixels), alt, caption=caption, scale=_scale(pixels, 112)))
    return section(
        "The most confident mistakes",
        "<p>The label, and the prediction with its probability.</p>",
        f'<div class="figures">{"".join(figures)}</div>',
    )


def _pixels(pixels: np.ndarray) -> np.ndarray:
    """An image that can be drawn: grey, or of three colours in [0, 1]."""
    if pixels.shape[-1] != 3:
        return pixels.mean(axis=-1, dtype=np.float32)
    values = pixels.astype(np.float32)
    low, high = (0, 255) if pixels.dtype == np.uint8 else (values.min(), values.max())
    return (values - low) / max(high - low, 1e-12)


def _scale(pixels: np.ndarray, width: int) -> int:
    return max(1, round(width / pixels.shape[1]))


def _filters(kept: Mapping[str, np.ndarray]) -> str:
    if "filters" not in kept:
        return ""
    filters = kept["filters"]
    height, width, channels, count = filters.shape
    scale = max(1, min(10, 56 // width))
    columns = max(1, min(count, 16, 900 // (scale * (width + 1))))
    sheet = tiles(filters.mean(axis=2).transpose(2, 0, 1), columns)
    name = kept["filters_layer"]
    over = f", means over {channels} channels" if channels > 1 else ""
    number = _of(count, int(kept["filters_count"]))
    caption = f"{number} filters of {name}, {height}×{width}{over}. Red adds, blue subtracts."
    drawn = image(sheet, f"filters of {name}", caption=caption, scale=scale, signed=True)
    return section("What the first layer looks for", drawn)


def _maps(kept: Mapping[str, np.ndarray]) -> str:
    names = kept.get("map_layer", ())
    if not len(names):
        return ""
    likely = int(kept["probabilities"].argmax())
    said = f"label {kept['label'][0]}, prediction {likely} ({kept['probabilities'][likely]:.1%})"
    first = kept["image"]
    caption = f"the first test sample: {said}"
    drawn = [
        "<p>The maps of a layer share one scale.</p>",
        image(_pixels(first), caption, caption=caption, scale=_scale(first, 112)),
    ]
    for i, name in enumerate(names):
        maps = kept[f"map_{i}"]
        height, width, count = maps.shape
        scale = max(1, min(8, 56 // width))
        columns = max(1, min(count, 900 // (scale * (width + 1))))
        sheet = tiles(maps.transpose(2, 0, 1), columns)
        number = _of(count, int(kept["map_channels"][i]))
        caption = f"{name}: {height}×{width}, {number} maps"
        signed = bool((maps < 0).any())
        caption += "; red above 0, blue below" if signed else ""
        drawn.append(image(sheet, f"maps of {name}", caption=caption, scale=scale, signed=signed))
    return section("What the layers make of one sample", *drawn)


def _of(shown: int, count: int) -> str:
    return str(count) if shown == count else f"the first {shown} of {count}"


def _model(kept: Mapping[str, np.ndarray]) -> str:
    params, products = kept["layer_params"], kept["layer_multiply_adds"]
    columns = ("layer", "layer_kind", "layer_shape")
    rows = [
        [*map(str, row), f"{n:,}", f"{m:,}"]
        for *row, n, m in zip(*(kept[name] for name in columns), params, products, strict=True)
    ]
    rows.append(["total", "", "", f"{params.sum():,}", f"{products.sum():,}"])
    heads = ["layer", "kind", "output shape", "params", "multiply-adds a sample"]
    return section("Model", table(rows, heads))
