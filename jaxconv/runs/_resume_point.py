"""A `ResumePoint` as JSON: the part of a checkpoint beside its arrays."""

import base64
import json
import operator
from typing import Any

import numpy as np

from jaxconv.training.state import ResumePoint

FORMAT = 2
_DTYPES = ("bfloat16", "float16", "float32", "float64", "int32", "int64", "uint32", "uint64")


class OtherFormatError(Exception):
    """Another version of jaxconv wrote the checkpoint, in another format."""


def to_json(resume_point: ResumePoint, **more: Any) -> str:
    """Writes a resume point as text that `from_json` reads back to the bit.

    Args:
      resume_point: where the training stands.
      **more: further values to write beside it, as JSON has them.

    Returns:
      The text. It holds NaN and infinity as `json.dumps` writes them.

    Example:
      >>> resume_point = ResumePoint(7, range(1), [[{"epoch": 1, "loss": 0.1, "seconds": 2.0}]])
      >>> text = to_json(resume_point, settings={"seed": 3})
      >>> from_json(text)[0] == resume_point, from_json(text)[1]["settings"]
      (True, {'seed': 3})
    """
    sums = {}
    for name, rows in resume_point.sums.items():
        content = base64.b64encode(np.ascontiguousarray(rows).tobytes()).decode()
        sums[name] = {"dtype": str(rows.dtype), "shape": rows.shape, "base64": content}
    content = {
        "format": FORMAT,
        "step": resume_point.step,
        "members": [resume_point.members.start, resume_point.members.stop],
        "seconds": resume_point.seconds,
        "stopped": resume_point.stopped,
        "sums": sums,
        "histories": resume_point.histories,
    }
    return json.dumps(content | more) + "\n"  # NaN and infinity stay: each bit counts here


def from_json(text: str) -> tuple[ResumePoint, dict[str, Any]]:
    """Reads a text that `to_json` wrote.

    Args:
      text: the text. It may come from anywhere: nothing in it is executed.

    Returns:
      The resume point, and all that the text holds as a dictionary.

    Raises:
      ValueError: if `to_json` did not write the text.
      OtherFormatError: if another version of jaxconv wrote it, in another format.
    """
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise OtherFormatError(content["format"])
        sums = {}
        for name, rows in content["sums"].items():
            if rows["dtype"] not in _DTYPES:
                raise ValueError(f"{name} has the dtype {rows['dtype']!r}.")
            flat = np.frombuffer(base64.b64decode(rows["base64"]), np.dtype(rows["dtype"]))
            sums[name] = flat.reshape(rows["shape"])
        resume_point = ResumePoint(
            operator.index(content["step"]),
            range(*map(operator.index, content["members"])),
            [[_row(row) for row in rows] for rows in content["histories"]],
            sums,
            float(content["seconds"]),
            bool(content["stopped"]),
        )
        members, count = resume_point.members, len(resume_point.histories)
        if not 0 <= members.start < members.stop <= count:
            raise ValueError(f"it has {count} histories for the replicas {members}.")
        if sums and ("count" not in sums or len({rows.shape for rows in sums.values()}) > 1):
            raise ValueError(f"the sums of its steps are {sorted(sums)}.")
        return resume_point, content
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
