"""A `ResumePoint` as a JSON object: the part of a checkpoint beside its arrays."""

import itertools
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxconv.training import ResumePoint

FORMAT = 3
DTYPES = ("bfloat16", "float16", "float32", "float64", "int32", "int64", "uint32", "uint64")


class OtherFormatError(Exception):
    """Another version of jaxconv wrote the checkpoint, in another format."""


def to_object(resume_point: ResumePoint) -> dict[str, Any]:
    """Turns a resume point into what JSON can hold; NaN and infinity stay, each bit counts."""
    return resume_point._asdict() | {
        "format": FORMAT,
        "members": [resume_point.members.start, resume_point.members.stop],
        "sums": {
            name: {"dtype": str(x.dtype), "values": x.tolist()}
            for name, x in resume_point.sums.items()
        },
    }


def from_object(content: Mapping[str, Any]) -> ResumePoint:
    """Makes the resume point of an object of `to_object`, which may come from anywhere.

    Raises:
      ValueError: if `to_object` did not make the object.
      OtherFormatError: if another version of jaxconv wrote it, in another format.
    """
    try:
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
    return ResumePoint(step, range(*members), histories, sums, seconds, stopped)
