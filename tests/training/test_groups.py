import math

import jax
import pytest

from jaxconv.training._groups import choose_strategy, groups


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 100])
@pytest.mark.parametrize("max_size", [1, 3, 8])
def test_groups_are_few_and_even(count, max_size):
    found = groups(count, max_size)
    assert [i for members in found for i in members] == list(range(count))
    sizes = [len(members) for members in found]
    assert max(sizes) <= max_size
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == math.ceil(count / max_size)


def test_a_backend_without_measurements_has_a_default(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert choose_strategy(None, None) == ("map", 5)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choose_strategy(None, None) == ("vmap", 32)
    assert choose_strategy("map", 3) == ("map", 3)
