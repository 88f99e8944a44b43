"""The parts of a self-contained HTML page: no network, no script, light and dark, and on paper."""

import base64
import html
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Num

from jaxconv.runs.plots import COLORS
from jaxconv.runs.report._style import STYLE

_NUMBER = re.compile(r"|[-+]?\d[\d.,e+%± s-]*")
_INK = "#010203"  # drawings in this colour take the page's own


def document(title: str, *parts: str) -> str:
    """A whole page, whose policy forbids the browser to load anything from elsewhere.

    Args:
      title: the page's title.
      *parts: the HTML of its body.

    Returns:
      The page's HTML.

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
    """Escapes a value, so that the page shows it as text.

    Example:
      >>> text("<script>")
      '&lt;script&gt;'
    """
    return html.escape(str(value))


def section(title: str, *parts: str) -> str:
    """A part of the page with a heading; an empty string if it has no parts.

    Example:
      >>> section("Model", "<p>none</p>"), section("Model")
      ('<section><h2>Model</h2><p>none</p></section>', '')
    """
    return f"<section><h2>{text(title)}</h2>{''.join(parts)}</section>" if parts else ""


def table(
    rows: Sequence[Sequence[object]], head: Sequence[object] = (), *, caption: str = ""
) -> str:
    """A table; columns of numbers, or of strings of digits and signs, stand to the right.

    Args:
      rows: the cells, row by row.
      head: the titles of the columns.
      caption: the line above.

    Returns:
      The table's HTML.

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
    pixels: Num[np.ndarray, "height width *rgb"],
    alt: str,
    *,
    caption: str = "",
    scale: int = 1,
    signed: bool = False,
) -> str:
    """An image inside the page, each pixel as a square.

    Args:
      pixels: `[height, width]`, drawn from black at the least value to white at the greatest, or
        from blue over white at 0 to red if `signed`; NaN is transparent. Or colours in [0, 1],
        `[height, width, 3]`.
      alt: a description for readers who cannot see it.
      caption: the line beneath.
      scale: the side of a square, in pixels of the page.
      signed: whether the sign of the values matters.

    Returns:
      The figure's HTML.

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


def drawing(draw: Callable[[Any], None], alt: str) -> str:
    """A matplotlib drawing as SVG inside the page, in the page's colours.

    Args:
      draw: draws, and saves the drawing to the file that it receives.
      alt: a description for readers who cannot see it.

    Returns:
      The drawing's SVG.

    Raises:
      ModuleNotFoundError: without matplotlib.
    """
    import matplotlib

    ink = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK
    )
    content = io.BytesIO()
    style: dict[str, Any] = {
        **ink,
        "savefig.format": "svg",
        "savefig.transparent": True,
        "svg.fonttype": "none",
        "svg.hashsalt": "jaxconv",  # the same run gives the same page
    }
    with matplotlib.rc_context(style):  # pyright: ignore[reportArgumentType]
        draw(content)
    svg = content.getvalue().decode()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    svg = svg.replace(_INK, "currentColor").replace("#444444", "currentColor")
    for name, color in COLORS.items():
        svg = svg.replace(color, f"var(--{name})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{text(alt)}" ', 1)


def _is_number(value: object) -> bool:
    return not isinstance(value, bool) and bool(_NUMBER.fullmatch(str(value)))
