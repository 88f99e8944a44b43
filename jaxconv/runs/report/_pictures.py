"""The pictures on a run's page: mistakes, filters and feature maps, each pixel as a square."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxconv.runs.plots import tile_images


def figures_of(
    arrays: Mapping[str, np.ndarray], classes: Sequence[str]
) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Mistakes, filters and feature maps: each with its title, a line, and pictures.

    `arrays` are those of `collect_diagnostics`, `classes` the classes' names.
    """
    label, prediction = ([classes[i] for i in arrays[x]] for x in ("label", "prediction"))
    mistakes = [
        _picture(image, f"{label[i]}, taken for {prediction[i]} ({share:.1%})", int(i))
        for i, image, share in zip(
            arrays["mistake"],
            arrays["mistake_image"],
            arrays["confidence"][arrays["mistake"]],
            strict=True,
        )
    ]
    text = "The label, and the prediction with its probability."
    found = [("The most confident mistakes", text, mistakes)]
    if not mistakes:
        found = [("Mistakes", "None: every test sample is recognised.", mistakes)]
    if "filters" in arrays:
        filters, name = arrays["filters"], arrays["filters_layer"]
        height, width, channels, _ = filters.shape
        count = _shown_of(filters, int(arrays["filters_count"]))
        over = f", means over {channels} channels" if channels > 1 else ""
        text = f"{count} filters of {name}, {height}×{width}{over}. Red adds, blue subtracts."
        sheet = _sheet(filters.mean(axis=2), text, signed=True)
        found.append(("The filters of the first layer", "", [sheet]))
    likely, names = int(arrays["probabilities"].argmax()), arrays["map_layer"]
    share = arrays["probabilities"][likely]
    outcome = f"label {label[0]}, prediction {classes[likely]} ({share:.1%})"
    sheets = [_picture(arrays["image"], outcome, 0)]
    for i, (name, channels) in enumerate(zip(names, arrays["map_channels"], strict=True)):
        maps = arrays[f"map_{i}"]
        signed = bool((maps < 0).any())
        text = f"{name}: {maps.shape[0]}×{maps.shape[1]}, {_shown_of(maps, int(channels))} maps"
        text += "; red above 0, blue below" if signed else ""
        sheets.append(_sheet(maps, text, signed=signed))
    text = "The first test sample, and its maps; those of a layer share one scale."
    return [*found, ("The feature maps of one sample", text, sheets)] if len(names) else found


def _shown_of(shown: np.ndarray, count: int) -> str:
    return str(count) if shown.shape[-1] == count else f"the first {shown.shape[-1]} of {count}"


def _sheet(tiles: np.ndarray, caption: str, *, signed: bool) -> dict[str, Any]:
    """Tiles `[height, width, tiles]` side by side, blue over white at 0 to red if `signed`."""
    _, width, count = tiles.shape
    columns = max(1, min(count, 8, 900 // (width + 1)))
    gap = 6 if signed else 2  # white is a colour of signed tiles too
    pixels = tile_images(tiles.transpose(2, 0, 1), columns, gap)
    finite = pixels[np.isfinite(pixels)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if signed:
        low, high = -max(-low, high), max(-low, high)
    high += float(high == low)  # matplotlib would paint the gaps too
    colors = {"cmap": "RdBu_r" if signed else "gray", "vmin": low, "vmax": high}
    return _png(np.where(np.isfinite(pixels), pixels, np.nan), caption, 1, **colors)


def _picture(image: np.ndarray, caption: str, index: int) -> dict[str, Any]:
    """A test image `[height, width, channels]`: in three colours, or grey."""
    scale, alt = max(1, round(112 / image.shape[1])), f"test sample {index}, {caption}"
    if image.shape[-1] != 3:
        grey = image.mean(axis=-1, dtype=np.float32)
        return _png(grey, caption, scale, cmap="gray") | {"alt": alt}
    low, high = (0, 255) if image.dtype == np.uint8 else (image.min(), image.max())
    colors = (image - np.float32(low)) / max(high - low, 1e-12)
    return _png(colors, caption, scale) | {"alt": alt}


def _png(pixels: np.ndarray, caption: str, scale: int, **colors: Any) -> dict[str, Any]:
    from matplotlib.image import imsave

    content = io.BytesIO()
    imsave(content, pixels, format="png", **colors)  # NaN is transparent
    source = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    height, width = (scale * n for n in pixels.shape[:2])
    size = {"height": height, "width": width}
    return {"caption": caption, "alt": caption, "source": source, **size}
