import numpy as np
import pytest

from jaxconv._checks import check_choice, check_positive


@pytest.mark.parametrize("value", [0, -3, 1.0, True, None, "2", np.float32(2)])
def test_only_positive_integers_pass(value):
    with pytest.raises(ValueError, match="size must be a positive integer, not"):
        check_positive("size", value)


def test_integers_of_any_kind_pass():
    for value in (1, 10**12, np.int64(3), np.uint8(1)):
        assert check_positive("size", value) is None


def test_a_long_list_of_choices_is_not_spelled_out():
    with pytest.raises(ValueError, match=r"did you mean '71'\?\): 100 are known"):
        check_choice("number", "171", range(100))
