"""The page's template, and how it writes words and numbers."""

import math
import re
from pathlib import Path
from typing import Any

from jaxconv.runs.result_lines import name_seeds


def template() -> Any:
    """The page's Jinja template, with its filters."""
    import jinja2

    where = jinja2.FileSystemLoader(Path(__file__).parent)
    pages = jinja2.Environment(loader=where, autoescape=True, undefined=jinja2.StrictUndefined)
    numeral = re.compile(r"|none|not (counted|finite)|[-+]?\d[\d.,e+%± s-]*(not counted)?")
    pages.tests["numeral"] = lambda x: not isinstance(x, bool) and numeral.fullmatch(str(x))
    pages.filters |= {"digits": digits, "seconds": seconds, "words": words, "seeds": name_seeds}
    return pages.get_template("page.html.jinja")


def words(name: str) -> str:
    """A figure's name as words."""
    return name.replace("_", " ")


def digits(value: float | None, places: int = 4) -> str:
    """A number with so many places; whole numbers as they are."""
    if isinstance(value, int):
        return str(value)
    return "not finite" if value is None or not math.isfinite(value) else f"{value:.{places}f}"


def seconds(value: float | None) -> str:
    """Seconds with three digits, or all that are whole: 0.02, 3.79, 20.8, 1234."""
    whole = len(str(int(value))) if value and math.isfinite(value) else 3
    return digits(value, max(0, 3 - whole))
