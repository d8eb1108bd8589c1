"""The curves that core brings, `linear` and `exponential`, and the interpolation that curves are made with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nectargan_core.errors import ScheduleError

if TYPE_CHECKING:
    from nectargan_core.schedules._schedule import Schedule


def interpolate(initial: float, target: float, fraction: float) -> float:
    """Return what lies at a fraction of the way from one value to another.

    Exact at both ends and never beyond them, monotone in the fraction, and finite for any finite values, which
    `initial + (target - initial) * fraction` is not quite.

    Args:
        initial: The value at 0, and below.
        target: The value at 1, and above.
        fraction: How far from one to the other.

    Example:
        >>> interpolate(10.0, 20.0, 0.25)
        12.5
    """
    if fraction <= 0.0:
        return initial
    if fraction >= 1.0:
        return target
    span = target - initial
    if not math.isfinite(span):
        return 2.0 * interpolate(0.5 * initial, 0.5 * target, fraction)
    value = initial + span * fraction
    # Rounding may give a value past the target.
    if span > 0.0:
        return value if value < target else target
    return value if value > target else target


def linear(schedule: Schedule, epoch: float) -> float:
    """Go from the initial to the target value in a straight line.

    With p = progress, i = initial and t = target: i + (t - i)·p, exact at both ends, for values of any sign.

    Args:
        schedule: From where to where.
        epoch: The epoch, fractions included.

    Raises:
        ScheduleError: If the schedule has no end.

    Example:
        >>> from nectargan_core import Schedule
        >>> linear(Schedule(start_epoch=10, end_epoch=20, initial_value=1.0, target_value=-1.0), 15)
        0.0
    """
    initial, target = schedule.ends()
    return interpolate(initial, target, schedule.progress(epoch))


def exponential(schedule: Schedule, epoch: float, *, epsilon: float | None = None) -> float:
    """Go from the initial to the target value by a constant factor per epoch.

    With p = progress, i = initial and t = target: i·(t/i)^p, exact at both ends.

    Args:
        schedule: From where to where; both values of one sign.
        epoch: The epoch, fractions included.
        epsilon: Where an end is 0, which no factor reaches: the magnitude, above 0, that the curve runs to (or
            from) instead, before it is 0 at that end.

    Raises:
        ScheduleError: If the values differ in sign, one is 0 and there is no `epsilon`, or the schedule has no end.

    Example:
        >>> from nectargan_core import Schedule
        >>> round(exponential(Schedule(end_epoch=2, initial_value=100.0, target_value=1.0), 1), 9)
        10.0
    """
    initial, target = schedule.ends()
    progress = schedule.progress(epoch)
    if initial < 0.0 < target or target < 0.0 < initial:
        raise ScheduleError(
            f"exponential needs values of one sign, got {initial:g} and {target:g}; use linear to cross zero"
        )
    if epsilon is not None and not (isinstance(epsilon, (int, float)) and 0 < epsilon < math.inf):
        raise ScheduleError(f"exponential needs a finite epsilon above 0, got {epsilon!r}")
    if initial == target:
        return initial
    if (initial == 0 or target == 0) and epsilon is None:
        raise ScheduleError(
            f"exponential never reaches 0 (from {initial:g} to {target:g}); give params={{'epsilon': 0.001}}, "
            "the magnitude at which it may jump, or use linear"
        )
    if progress <= 0.0 or progress >= 1.0:
        return target if progress else initial
    start, end = abs(initial) or epsilon or 0.0, abs(target) or epsilon or 0.0
    # In logarithms, since the ratio of two finite weights may be infinite.
    value = math.exp((1.0 - progress) * math.log(start) + progress * math.log(end))
    low, high = (start, end) if start < end else (end, start)
    value = low if value < low else high if value > high else value
    return value if initial > 0.0 or target > 0.0 else -value
