import pytest

from jaxconv.runs.values import MAX_SEEDS, parse_seeds


@pytest.mark.parametrize(
    ("text", "start", "seeds"),
    [
        ("3", 0, (0, 1, 2)),
        ("2", 5, (5, 6)),
        (" 3, 7 ", 0, (3, 7)),
        ("9,", 0, (9,)),
        ("0,", 0, (0,)),
    ],
)
def test_seeds_are_a_number_or_a_list(text, start, seeds):
    assert parse_seeds(text, start) == seeds


@pytest.mark.parametrize(
    ("text", "start", "message"),
    [
        ("", 0, "seeds must be a number of seeds such as 10, or a list"),
        ("ten", 0, "not 'ten'"),
        ("-3", 0, "not '-3'"),
        ("1.5", 0, "not '1.5'"),
        ("3,,4", 0, "not '3,,4'"),
        ("0", 0, "seeds must be 1 to 10000, not '0'"),
        (str(MAX_SEEDS + 1), 0, "seeds must be 1 to 10000"),
        ("3,7,3", 0, "has one twice"),
        ("4294967296,", 0, r"in \[0, 2\*\*32\), not 4294967296"),
        ("2", 2**32 - 1, r"in \[0, 2\*\*32\), not 4294967296"),
        ("3,7", 1, "seed 1 and the list of seeds '3,7' exclude each other"),
        ("²", 0, "not '²'"),
        ("7," + "1" * 5000, 0, "not a number of 5000 digits"),
    ],
)
def test_other_seeds_are_refused(text, start, message):
    with pytest.raises(ValueError, match=message):
        parse_seeds(text, start)
