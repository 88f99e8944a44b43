"""How the learning rate moves during a training: schedules of optax, by name."""

from collections.abc import Callable

import optax

from jaxconv._checks import check_choice, check_positive

SCHEDULES: dict[str, Callable[[float, int], optax.ScalarOrSchedule]] = {
    "constant": lambda peak, steps: peak,
    "cosine": lambda peak, steps: optax.cosine_decay_schedule(peak, steps),
    # Older versions of optax divide by the three tenths of the steps, rounded down.
    "onecycle": lambda peak, steps: optax.cosine_onecycle_schedule(max(4, steps), peak),
    "warmup-cosine": lambda peak, steps: optax.warmup_cosine_decay_schedule(
        0.0, peak, max(1, steps // 10), max(2, steps)
    ),
}
"""Schedules of optax, from their peak and the number of steps."""


def learning_rate_schedule(name: str, peak: float, steps: int) -> optax.ScalarOrSchedule:
    """Makes the learning rate of a whole training, as every optimizer of optax takes it.

    Args:
      name: `"constant"`, the number itself; `"cosine"`, half a cosine from the peak to 0;
        `"onecycle"`, a cosine up from a 25th in three tenths of the steps, and one down to nearly
        0; `"warmup-cosine"`, a line up from 0 in a tenth of the steps, and a cosine down to 0.
      peak: the largest learning rate.
      steps: the steps of the whole training.

    Raises:
      ValueError: for an unknown name, or if `steps` is not positive.

    Example:
      >>> rate = learning_rate_schedule("cosine", 0.1, 100)
      >>> [round(float(rate(step)), 3) for step in (0, 50, 100)]
      [0.1, 0.05, 0.0]

    Source: https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html; Smith and Topin,
    2018, https://arxiv.org/abs/1708.07120 (one cycle)
    """
    check_choice("schedule", name, SCHEDULES)
    check_positive("steps", steps)
    return SCHEDULES[name](peak, steps)
