"""A `ResumePoint` as JSON: the part of a checkpoint beside its arrays."""

import itertools
import json
import operator
from typing import Any

import numpy as np

from jaxconv.training import ResumePoint

FORMAT = 2
DTYPES = ("bfloat16", "float16", "float32", "float64", "int32", "int64", "uint32", "uint64")


class OtherFormatError(Exception):
    """Another version of jaxconv wrote the checkpoint, in another format."""


def to_json(resume_point: ResumePoint, **more: Any) -> str:
    """Writes a resume point, and more, as text that `from_json` reads back to the bit."""
    content = resume_point._asdict() | {
        "format": FORMAT,
        "members": [resume_point.members.start, resume_point.members.stop],
        "sums": {
            name: {"dtype": str(x.dtype), "values": x.tolist()}
            for name, x in resume_point.sums.items()
        },
    }
    return json.dumps(content | more) + "\n"  # NaN and infinity stay: each bit counts here


def from_json(text: str) -> tuple[ResumePoint, dict[str, Any]]:
    """Reads a text that `to_json` wrote: the resume point, and all that it holds.

    The text may come from anywhere: nothing in it is executed.

    Raises:
      ValueError: if `to_json` did not write the text.
      OtherFormatError: if another version of jaxconv wrote it, in another format.
    """
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise OtherFormatError(
                f"a checkpoint of format {content['format']}, where this version knows {FORMAT}: "
                "resume with the version of jaxconv that saved it."
            )
        step, *members = map(operator.index, (content["step"], *content["members"]))
        histories, sums = content["histories"], {}
        for name, x in content["sums"].items():
            if x["dtype"] not in DTYPES:
                raise ValueError(f"{name} has the dtype {x['dtype']!r}.")
            sums[name] = np.array(x["values"], x["dtype"])
        if not 0 <= members[0] < members[1] <= len(histories):
            raise ValueError(f"it has {len(histories)} histories for the replicas {members}.")
        if sums and ("count" not in sums or len({x.shape for x in sums.values()}) > 1):
            raise ValueError(f"the sums of its steps are {sorted(sums)}.")
        for row in itertools.chain(*histories):
            numbers = all(type(value) in (int, float) for value in row.values())
            if not numbers or not {"epoch", "loss", "seconds"} <= row.keys():
                raise ValueError(f"a row is {row}.")
        seconds, stopped = float(content["seconds"]), bool(content["stopped"])
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"it is not what a save writes: {error!r}.") from error
    return ResumePoint(step, range(*members), histories, sums, seconds, stopped), content
