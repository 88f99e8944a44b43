import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jax import lax

from jaxconv.inspection.receptive_field import ReceptiveField, receptive_field

SMALL = st.integers(1, 5)


@given(st.lists(st.tuples(SMALL, st.integers(1, 3), st.integers(0, 2), SMALL), max_size=4))
def test_the_receptive_field_is_where_the_gradient_is_not_zero(windows):
    """With positive kernels, every cell that an output sees changes it, and no other cell does."""
    field, size = receptive_field(windows), 200

    def stack(x: jax.Array) -> jax.Array:
        for kernel, stride, before, dilation in windows:
            x = lax.conv_general_dilated(
                x[None, :, None],
                jnp.ones((kernel, 1, 1)),
                (stride,),
                [(before, 0)],
                rhs_dilation=(dilation,),
                dimension_numbers=("NWC", "WIO", "NWC"),
            )[0, :, 0]
        return x

    outputs = jax.eval_shape(stack, jnp.ones(size)).shape[0]
    assume(outputs > 1)
    for output in (0, 1, outputs - 1):
        seen = np.flatnonzero(jax.grad(lambda x, i=output: stack(x)[i])(jnp.ones(size)))
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
