"""Where a training stands, also as JSON: what a checkpoint holds beside the arrays."""

import base64
import json
import operator
from typing import Any

import numpy as np

from jaxconv.training.state import ResumePoint

FORMAT = 1
_DTYPES = ("bfloat16", "float16", "float32", "float64", "int32", "int64", "uint32", "uint64")


class OtherFormatError(Exception):
    """What another version of jaxconv wrote, in a format of its own."""


def to_json(position: ResumePoint, **more: Any) -> str:
    """A position, and what else belongs to it, as text that `from_json` gives back to the bit.

    Example:
      >>> position = ResumePoint(7, range(1), [[{"epoch": 1, "loss": 0.1, "seconds": 2.0}]])
      >>> text = to_json(position, settings={"seed": 3})
      >>> from_json(text)[0] == position, from_json(text)[1]["settings"]
      (True, {'seed': 3})
    """
    sums = {}
    for name, rows in position.sums.items():
        content = base64.b64encode(np.ascontiguousarray(rows).tobytes()).decode()
        sums[name] = {"dtype": str(rows.dtype), "shape": rows.shape, "base64": content}
    content = {
        "format": FORMAT,
        "step": position.step,
        "members": [position.members.start, position.members.stop],
        "seconds": position.seconds,
        "stopped": position.stopped,
        "sums": sums,
        "histories": position.histories,
    }
    return json.dumps(content | more) + "\n"  # NaN and Infinity as such: bits matter here


def from_json(text: str) -> tuple[ResumePoint, dict[str, Any]]:
    """The position in a text that `to_json` wrote, and what else is in it.

    Raises:
      ValueError: if `to_json` did not write it.
      OtherFormatError: if another version of jaxconv did, in a format of its own.
    """
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise OtherFormatError(content["format"])
        sums = {}
        for name, rows in content["sums"].items():
            if rows["dtype"] not in _DTYPES:
                raise ValueError(f"{name} is of {rows['dtype']!r}.")
            flat = np.frombuffer(base64.b64decode(rows["base64"]), np.dtype(rows["dtype"]))
            sums[name] = flat.reshape(rows["shape"])
        position = ResumePoint(
            operator.index(content["step"]),
            range(*map(operator.index, content["members"])),
            [[_row(row) for row in rows] for rows in content["histories"]],
            sums,
            float(content["seconds"]),
            bool(content["stopped"]),
        )
        if not 0 <= position.members.start < position.members.stop <= len(position.histories):
            raise ValueError(f"it has {len(position.histories)} histories of {position.members}.")
        if sums and ("count" not in sums or len({rows.shape for rows in sums.values()}) > 1):
            raise ValueError(f"the sums of its steps are {sorted(sums)}.")
        return position, content
    except OtherFormatError as error:
        raise OtherFormatError(
            f"a checkpoint of format {error}, where this version knows {FORMAT}: resume with the "
            "version of jaxconv that saved it."
        ) from None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"it is not what a save writes: {error!r}.") from error


def _row(row: Any) -> dict[str, float]:
    if not {"epoch", "loss", "seconds"} <= row.keys():
        raise ValueError(f"a row has {sorted(row)}.")
    if not all(type(value) in (int, float) for value in row.values()):
        raise ValueError(f"a row is {row}.")
    return dict(row)
