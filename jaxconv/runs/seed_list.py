"""Seeds as a command line gives them, and in words."""

from collections.abc import Sequence

MAX_SEEDS = 10_000


def parse_seeds(text: str, first: int = 0) -> tuple[int, ...]:
    """Seeds as a command line gives them: how many, or the seeds themselves.

    Args:
      text: `"10"`, or `"3,7,11"`; a comma makes a list, `"7,"` too.
      first: where a number of seeds begins.

    Raises:
      ValueError: if the text is neither, asks for more than `MAX_SEEDS`, one is
        outside [0, 2**32) or comes twice, or a list comes with a first seed.

    Example:
      >>> parse_seeds("3"), parse_seeds("3,7,11"), parse_seeds("7,")
      ((0, 1, 2), (3, 7, 11), (7,))
    """
    parts = text.strip().removesuffix(",").split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ValueError(
            f"seeds must be a number of seeds such as 10, or a list such as 3,7,11; not {text!r}."
        )
    given = tuple(map(int, parts))
    if "," in text:
        if first:
            raise ValueError(f"seed {first} and the list of seeds {text!r} exclude each other.")
        if len(set(given)) < len(given):
            raise ValueError(f"seeds {text!r} has one twice: every replica needs its own.")
    elif not 0 < given[0] <= MAX_SEEDS:
        raise ValueError(f"seeds must be 1 to {MAX_SEEDS}, not {text!r}.")
    else:
        given = tuple(range(first, first + given[0]))
    if max(given) >= 2**32:
        raise ValueError(f"seeds must be in [0, 2**32), not {max(given)}.")
    return given


def name_seeds(seeds: Sequence[int]) -> str:
    """Seeds in words.

    Example:
      >>> name_seeds([3]), name_seeds([0, 1, 2]), name_seeds([3, 7, 11])
      ('seed 3', 'seeds 0 to 2', 'seeds 3, 7, 11')
    """
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}"
