import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxconv.inspection.receptive_field import ReceptiveField, receptive_field

SMALL = st.integers(1, 5)


@given(st.lists(st.tuples(SMALL, st.integers(1, 3), st.integers(0, 2), SMALL), max_size=4))
def test_an_output_sees_the_cells_of_its_field(windows):
    """The cells that reach an output through the windows, followed one by one."""
    field, size = receptive_field(windows), 200
    sees = np.eye(size, dtype=bool)  # which inputs each cell sees
    for kernel, stride, before, dilation in windows:
        padded = np.concatenate([np.zeros((before, size), bool), sees])
        reach = (kernel - 1) * dilation + 1
        assume(len(padded) >= reach)
        starts = range(0, len(padded) - reach + 1, stride)
        sees = np.array([padded[i : i + reach : dilation].any(axis=0) for i in starts])
    assume(len(sees) > 1)
    for output in (0, 1, len(sees) - 1):
        seen = np.flatnonzero(sees[output])
        first = field.start + output * field.step
        assert all(first <= cell < first + field.size for cell in seen)
        # Next to the zeros that a later layer adds, an output sees less.
        if first >= 0 and first + field.size <= size:
            assert (seen[0], seen[-1]) == (first, first + field.size - 1)


def test_a_field_goes_on_from_the_one_before_it():
    before = receptive_field([(3, 2), (2, 2)])
    assert receptive_field([(3, 1)], before) == receptive_field([(3, 2), (2, 2), (3, 1)])
    assert receptive_field([], before) == before
    assert receptive_field([]) == ReceptiveField()


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ((0, 1), "kernel must be a positive integer, not 0"),
        ((3, 0), "stride must be a positive integer, not 0"),
        ((3, 1, 0, 0), "dilation must be a positive integer, not 0"),
    ],
)
def test_impossible_windows_are_refused(window, message):
    with pytest.raises(ValueError, match=message):
        receptive_field([window])
