"""Text for a stdout whose encoding lacks lines, arrows and dots, such as ASCII or Latin-1."""

import sys

_PLAIN = str.maketrans({"─": "-", "→": "->", "·": "*"})


def printable(text: str) -> str:
    """The text, in plain characters unless stdout can encode it.

    Example:
      >>> printable("3·3 → 9")
      '3·3 → 9'
    """
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return text.translate(_PLAIN)
    return text
