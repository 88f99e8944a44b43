"""How many replicas one program trains, and in which form."""

import itertools
from typing import Any

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


def group_of(group: int | None, early_stopping: int | None) -> int | None:
    """The largest group: one replica where each stops at an epoch of its own.

    Raises:
      ValueError: if another one is given then.

    Example:
      >>> group_of(None, early_stopping=3), group_of(8, early_stopping=None)
      (1, 8)
    """
    if early_stopping is None:
        return group
    if group not in (None, 1):
        raise ValueError(
            f"With early_stopping each replica ends at its own epoch: group must be 1, not {group}."
        )
    return 1


def check_keys(rng: Any, strategy: Strategy, replicas: int) -> None:
    """Refuses keys that draw other numbers under `vmap` than alone, as those of `rbg` do.

    Raises:
      ValueError: naming the kind of key.

    Example:
      >>> check_keys(jax.random.key(0, impl="rbg"), "vmap", 2)
      Traceback (most recent call last):
      ValueError: Keys of rbg draw other numbers under vmap than alone, and a seed must not ...
    """
    impl = str(jax.random.key_impl(rng))
    if strategy == "vmap" and replicas > 1 and "threefry" not in impl:
        raise ValueError(
            f"Keys of {impl} draw other numbers under vmap than alone, and a seed must not depend "
            'on its neighbours: take strategy "map", or unset JAX_DEFAULT_PRNG_IMPL.'
        )


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
