"""Reads the values of the command line that are more than one number."""

MAX_SEEDS = 10_000


def parse_seeds(text: str, start: int = 0) -> tuple[int, ...]:
    """Reads the seeds of a command line: their number, or a list of them.

    Args:
      text: a number such as `"10"`, or a list such as `"3,7,11"` or `"7,"`: a comma makes a list.
      start: the first of a number of seeds.

    Returns:
      The seeds, each once.

    Raises:
      ValueError: if the text is neither, asks for more than `MAX_SEEDS`, has a seed twice or one
        outside [0, 2**32), or if a list comes with a `start`.

    Example:
      >>> parse_seeds("3"), parse_seeds("3,7,11"), parse_seeds("7,")
      ((0, 1, 2), (3, 7, 11), (7,))
    """
    parts = text.strip().removesuffix(",").split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ValueError(
            f"seeds must be a number of seeds such as 10, or a list such as 3,7,11; not {text!r}."
        )
    if (digits := max(map(len, parts))) > 1000:  # Python would refuse 5000
        raise ValueError(f"seeds must be in [0, 2**32), not a number of {digits} digits.")
    given = tuple(map(int, parts))
    if "," in text:
        if start:
            raise ValueError(f"seed {start} and the list of seeds {text!r} exclude each other.")
        if len(set(given)) < len(given):
            raise ValueError(f"seeds {text!r} has one twice: every replica needs its own.")
    elif not 0 < given[0] <= MAX_SEEDS:
        raise ValueError(f"seeds must be 1 to {MAX_SEEDS}, not {text!r}.")
    else:
        given = tuple(range(start, start + given[0]))
    if max(given) >= 2**32:
        raise ValueError(f"seeds must be in [0, 2**32), not {max(given)}.")
    return given


def parse_image_size(text: str | None) -> tuple[int, int] | None:
    """Reads the image size of a command line: a side, or a height and a width.

    Raises:
      ValueError: if the text is neither.

    Example:
      >>> parse_image_size("64"), parse_image_size("48,64"), parse_image_size(None)
      ((64, 64), (48, 64), None)
    """
    if text is None:
        return None
    sides = text.split(",")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise ValueError(f"image_size is a side such as 64, or HEIGHT,WIDTH; not {text!r}.")
    return int(sides[0]), int(sides[-1])
