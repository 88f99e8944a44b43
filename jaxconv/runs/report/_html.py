"""The parts of a self-contained HTML page: no network, no script, light and dark, and on paper."""

import base64
import html
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxconv.runs.plots import COLORS

STYLE = """
:root { --ink: #1f2328; --soft: #59636e; --line: #d5d9de; --paper: #ffffff; --band: #f3f5f7;
  --train: #0b6e99; --validation: #d9730d; --test: #0f7b6c; --right: 11 110 153;
  --wrong: 217 115 13; color-scheme: light; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e2e4e7; --soft: #9aa4af; --line: #3a4048; --paper: #16191d; --band: #1f2429;
    --train: #4fb3dc; --validation: #f0a052; --test: #4cc2ae; --right: 79 179 220;
    --wrong: 240 160 82; color-scheme: dark; } }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1.2rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; } .soft, figcaption, caption { color: var(--soft); font-size: .87rem; }
caption { text-align: left; padding-bottom: .3rem; }
pre { background: var(--band); padding: .7rem .9rem; border-radius: 4px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .18rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  overflow-wrap: anywhere; }
th { font-weight: 600; } td.number, th.number { text-align: right; white-space: nowrap; }
table.confusion td, table.confusion th { text-align: center; padding: .2rem .45rem; }
.right { background: rgb(var(--right) / var(--share)); }
.wrong { background: rgb(var(--wrong) / var(--share)); }
.figures, .tables { display: flex; flex-wrap: wrap; gap: 1rem; }
.tables { gap: 0 3rem; } figure { margin: 0; }
.numbers { display: flex; flex-wrap: wrap; gap: .6rem 2.4rem; margin: 1rem 0; }
.numbers b { display: block; font-size: 1.5rem; line-height: 1.25; }
img { display: block; image-rendering: pixelated; max-width: 100%; margin-bottom: .25rem; }
svg { max-width: 100%; height: auto; }
@media print { body { margin: 0; max-width: none; font-size: 10pt; } h2 { break-after: avoid; }
  figure, tr, svg, pre { break-inside: avoid; } .scroll { overflow: visible; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
_NUMBER = re.compile(r"|[-+]?\d[\d.,e+%± s-]*")
_INK = "#010203"  # what is drawn in it takes the page's own colour


def document(title: str, *parts: str) -> str:
    """A whole page. Its policy forbids the browser to load anything from elsewhere.

    Example:
      >>> document("a < b", "<p>yes</p>").splitlines()[0]
      '<!doctype html>'
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{text(title)}</title><style>{STYLE}</style></head><body>",
            *parts,
            "</body></html>\n",
        ]
    )


def text(value: object) -> str:
    """Anything as text of a page.

    Example:
      >>> text("<script>")
      '&lt;script&gt;'
    """
    return html.escape(str(value))


def section(title: str, *parts: str) -> str:
    """A headed part of the page; nothing if there is nothing in it.

    Example:
      >>> section("Model", "<p>none</p>"), section("Model")
      ('<section><h2>Model</h2><p>none</p></section>', '')
    """
    return f"<section><h2>{text(title)}</h2>{''.join(parts)}</section>" if parts else ""


def table(
    rows: Sequence[Sequence[object]], head: Sequence[object] = (), *, caption: str = ""
) -> str:
    """A table; cells that are numbers, or strings of digits and signs, stand to the right.

    Example:
      >>> table([["params", 160]])
      '<div class="scroll"><table><tr><td>params</td><td class="number">160</td></tr></table></div>'
    """

    def cell(value: object, tag: str, number: bool) -> str:
        kind = ' class="number"' if number else ""
        return f"<{tag}{kind}>{text(value)}</{tag.partition(' ')[0]}>"

    numeric = [all(map(_is_number, column)) for column in zip(*rows, strict=True)]
    numeric = numeric or [False] * len(head)
    lines = [[cell(x, "td", n) for x, n in zip(row, numeric, strict=True)] for row in rows]
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    if head:
        heads = (cell(x, 'th scope="col"', n) for x, n in zip(head, numeric, strict=True))
        body = f"<thead><tr>{''.join(heads)}</tr></thead><tbody>{body}</tbody>"
    named = f"<caption>{text(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{named}{body}</table></div>'


def image(
    pixels: np.ndarray, alt: str, *, caption: str = "", scale: int = 1, signed: bool = False
) -> str:
    """An image inside the page, each pixel as a square.

    Args:
      pixels: `[height, width]`, drawn from its least value, black, to its greatest, white, or from
        blue over white at 0 to red; NaN is left transparent. Or `[height, width, 3]` in [0, 1].
      alt: what it shows, for those who cannot see it.
      caption: the line beneath.
      scale: the side of a square, in pixels of the page.
      signed: whether the values have a sign that matters.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    from matplotlib.image import imsave

    finite = pixels[np.isfinite(pixels)] if np.isfinite(pixels).any() else np.zeros(1)
    reach = float(np.abs(finite).max()) or 1.0
    if signed and pixels.ndim == 2:
        colors: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}
    elif pixels.ndim == 2:
        colors = {"cmap": "gray", "vmin": finite.min(), "vmax": finite.max()}
    else:
        colors = {}
    content = io.BytesIO()
    imsave(content, pixels, format="png", **colors)
    source = base64.b64encode(content.getvalue()).decode()
    height, width = (scale * n for n in pixels.shape[:2])
    line = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><img alt="{text(alt)}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{source}">{line}</figure>'
    )


def tiles(images: np.ndarray, columns: int) -> np.ndarray:
    """Images `[number, height, width]` side by side, with NaN between them.

    Example:
      >>> tiles(np.ones((3, 2, 2)), columns=2).shape
      (5, 5)
    """
    number, height, width = images.shape
    rows = -(-number // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for i, tile in enumerate(images):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def drawing(draw: Callable[[Any], None], alt: str) -> str:
    """A matplotlib drawing as SVG inside the page, in its colours.

    Args:
      draw: draws, and saves to the file that it is given.
      alt: what it shows.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    import matplotlib

    ink = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK
    )
    content = io.BytesIO()
    settings: dict[str, Any] = {
        **ink,
        "savefig.format": "svg",
        "savefig.transparent": True,
        "svg.fonttype": "none",
        "svg.hashsalt": "jaxconv",  # the same run gives the same page
    }
    with matplotlib.rc_context(settings):  # pyright: ignore[reportArgumentType]
        draw(content)
    svg = content.getvalue().decode()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    svg = svg.replace(_INK, "currentColor").replace("#444444", "currentColor")
    for name, color in COLORS.items():
        svg = svg.replace(color, f"var(--{name})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{text(alt)}" ', 1)


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and bool(_NUMBER.fullmatch(str(value)))
