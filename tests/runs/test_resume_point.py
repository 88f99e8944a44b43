import json

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxconv.runs._resume_point import from_object, to_object
from jaxconv.training import ResumePoint

numbers = st.floats() | st.integers(-(2**60), 2**60)
rows = st.fixed_dictionaries({"epoch": st.integers(1), "loss": st.floats(), "seconds": numbers})
dtypes = st.sampled_from(["float16", "float32", "float64", "int32", "uint32"])


@st.composite
def resume_points(draw):
    histories = draw(st.lists(st.lists(rows, max_size=3), min_size=1, max_size=4))
    start = draw(st.integers(0, len(histories) - 1))
    shape = draw(arrays.array_shapes(max_dims=2, max_side=5))
    names = draw(st.sampled_from([(), ("count",), ("loss", "count", "accuracy")]))
    sums = {name: draw(arrays.arrays(draw(dtypes), shape)) for name in names}
    members = range(start, draw(st.integers(start + 1, len(histories))))
    step, seconds = draw(st.integers(0, 2**60)), draw(st.floats())
    return ResumePoint(step, members, histories, sums, seconds, draw(st.booleans()))


@given(resume_points())
def test_a_resume_point_comes_back_with_every_bit(resume_point):
    """NaN, infinities, the zeros' signs and subnormal numbers too."""
    back = from_object(json.loads(json.dumps(to_object(resume_point))))
    # repr distinguishes all floats, also -0.0 and 0.0, and treats every nan alike
    plain = [repr(one._replace(sums={})) for one in (back, resume_point)]
    assert plain[0] == plain[1]
    assert back.sums.keys() == resume_point.sums.keys()
    for name, found in back.sums.items():
        expected = resume_point.sums[name]
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert repr(found.tolist()) == repr(expected.tolist())
