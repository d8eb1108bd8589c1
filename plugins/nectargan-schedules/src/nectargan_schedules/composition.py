"""Curves that combine schedules: in sequence, or as a product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from nectargan_core import Schedule, Scheduler
from nectargan_core.errors import ScheduleError
from nectargan_schedules.parameters import refused


def sequence(schedule: Schedule, epoch: float, *, parts: Sequence[Scheduler]) -> float:
    """Follow one schedule after another.

    The value is that of the last part that has started, or of the first part if none has. A part keeps its own start,
    end and values; they are neither shifted nor scaled. A value that it leaves out is the initial value of the whole,
    and so the weight of the loss.

    Args:
        schedule: Start and end, outside of which the value is constant; by default there are none. Its target value is
            ignored.
        epoch: The epoch (or step), fractions included.
        parts: The schedules, each starting later than the one before. In `Schedule.params` each is a `Schedule`.

    Raises:
        ScheduleError: If there are no parts, one is not a schedule, or they are not in the order of their starts.

    Example:
        >>> rise = Schedule("linear", end=10, initial_value=0.0)
        >>> fall = Schedule("cosine", start=100, end=200, target_value=0.0)
        >>> whole = Scheduler(Schedule("sequence", initial_value=8.0, params={"parts": [rise, fall]}))
        >>> [round(whole.value(epoch), 6) for epoch in (0, 5, 10, 100, 150, 200)]
        [0.0, 4.0, 8.0, 8.0, 4.0, 0.0]
    """
    _check("parts", parts)
    now = _held(schedule, epoch)
    current = parts[0]
    for earlier, later in pairwise(parts):
        if not earlier.schedule.start_epoch < later.schedule.start_epoch:
            raise ScheduleError(
                f"each of the parts must start later than the one before, got one that starts at "
                f"{later.schedule.start_epoch:g} after one at {earlier.schedule.start_epoch:g}"
            )
        if later.schedule.start_epoch <= now:
            current = later
    return current.with_weight(schedule.ends()[0]).value(now)


def product(schedule: Schedule, epoch: float, *, factors: Sequence[Scheduler]) -> float:
    """Multiply schedules, such as a warm-up and a decay, with each other and with the weight of the loss.

    With i the initial value of the whole, which is the weight of the loss where it is left out, and f_k the factors:
    i·f_1·f_2·… A value that a factor leaves out is 1.

    Args:
        schedule: Start and end, outside of which the value is constant; by default there are none. Its target value is
            ignored.
        epoch: The epoch (or step), fractions included.
        factors: The schedules. In `Schedule.params` each is a `Schedule`.

    Raises:
        ScheduleError: If there are no factors, or one is not a schedule.

    Example:
        >>> rise = Schedule("linear", end=10, initial_value=0.0)
        >>> fall = Schedule("linear", end=100, target_value=0.0)
        >>> whole = Scheduler(Schedule("product", initial_value=100.0, params={"factors": [rise, fall]}))
        >>> [whole.value(epoch) for epoch in (0, 5, 50, 100)]
        [0.0, 47.5, 50.0, 0.0]
    """
    _check("factors", factors)
    now = _held(schedule, epoch)
    return math.prod((factor.value(now) for factor in factors), start=schedule.ends()[0])


def _held(schedule: Schedule, epoch: float) -> float:
    return schedule.until_end(max(epoch, schedule.start_epoch))


def _check(name: str, schedules: Sequence[Scheduler]) -> None:
    if not isinstance(schedules, Sequence) or not schedules:
        raise refused(name, "a list of schedules", schedules)
    for each in schedules:
        if not isinstance(each, Scheduler):
            raise refused(f"each of the {name}", "a Schedule, or a dict with the key 'schedule'", each)
