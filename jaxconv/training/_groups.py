"""How many replicas one program trains, and in which form."""

import itertools

import jax

from jaxconv._checks import check_choice, check_positive
from jaxconv.training._stacked import Strategy

STRATEGIES: dict[str, tuple[Strategy, int]] = {"cpu": ("map", 5), "gpu": ("vmap", 32)}
"""The strategy and largest group by backend, as measured (seeds.md, gpu.md in results)."""
UNMEASURED: tuple[Strategy, int] = ("vmap", 32)
"""The same for all other backends."""


def choose_strategy(strategy: Strategy | None, group: int | None) -> tuple[Strategy, int]:
    """Fills in the backend's own strategy and largest group for those that are None.

    Raises:
      ValueError: if the strategy is unknown, or the group is not positive.

    Example:
      >>> choose_strategy("vmap", 8)
      ('vmap', 8)
    """
    own_strategy, own_group = STRATEGIES.get(jax.default_backend(), UNMEASURED)
    if strategy is not None:
        check_choice("strategy", strategy, ("map", "vmap"))
    if group is not None:
        check_positive("group", group)
    return strategy or own_strategy, group or own_group


def groups(count: int, max_size: int) -> list[range]:
    """Divides replicas into as few groups as possible, with sizes that differ by at most one.

    Groups of equal size share a compiled program.

    Example:
      >>> groups(5, 2)
      [range(0, 2), range(2, 4), range(4, 5)]
    """
    number = -(-count // max_size)
    size, larger = divmod(count, number)
    starts = [i * size + min(i, larger) for i in range(number + 1)]
    return [range(*pair) for pair in itertools.pairwise(starts)]
