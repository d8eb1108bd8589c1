"""Curves that stay constant, switch or alternate between the two values, or interpolate a table."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import isfinite

from nectargan_core import Schedule, interpolate
from nectargan_schedules.parameters import increasing, length, positions, refused, whole
from nectargan_schedules.periods import periods


def constant(schedule: Schedule, epoch: float) -> float:
    """Keep the initial value, for example as a part of a sequence.

    With i = initial: i, at every epoch. Start, end and target value are ignored.

    Args:
        schedule: The initial value.
        epoch: Any epoch (or step).

    Example:
        >>> constant(Schedule(initial_value=5.0), 70)
        5.0
    """
    return schedule.ends()[0]


def window(schedule: Schedule, epoch: float) -> float:
    """Take the target value from the start up to, and not including, the end; otherwise the initial value.

    Args:
        schedule: Start, end and the two values. Without an end it never switches off.
        epoch: The epoch (or step), fractions included.

    Example:
        >>> curve = Schedule(start=10, end=20, initial_value=0.0, target_value=1.0)
        >>> [window(curve, epoch) for epoch in (9.9, 10, 19.9, 20)]
        [0.0, 1.0, 1.0, 0.0]
    """
    return schedule.ends()[schedule.is_running(epoch)]


def every(schedule: Schedule, epoch: float, *, n: int, average: bool = False) -> float:
    """Take the target value in every nth epoch (or step), counted from the start; otherwise the initial value.

    With s the start, e the end and x the epoch: t = target where s ≤ x < e and ⌊x - s⌋ is a multiple of n, otherwise
    i = initial. With `average`, i + n·(t - i) in the place of t. The fraction of an epoch is ignored.

    Args:
        schedule: Start, end and the two values. The first epoch (or step) with the target value is the start.
            Without an end it never stops.
        epoch: The epoch (or step), fractions included.
        n: The distance from one epoch (or step) with the target value to the next, an integer of at least 1.
        average: Whether the average over n epochs (or steps) is the target value, and not the value in the nth.

    Raises:
        ScheduleError: If `n` is not an integer of at least 1, `average` is not a bool, or the unit is a fraction of the
            run.

    Example:
        >>> curve = Schedule(unit="step", initial_value=0.0, target_value=16.0)
        >>> [every(curve, step, n=16) for step in (0, 1, 15, 16, 17)]
        [16.0, 0.0, 0.0, 16.0, 0.0]
        >>> curve = Schedule(unit="step", initial_value=0.0, target_value=10.0)
        >>> [every(curve, step, n=16, average=True) for step in (0, 1, 16)]
        [160.0, 0.0, 160.0]

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 3.1, where it
    regularises lazily, every 16 steps with 16 times the weight.
    """
    whole("n", n)
    if not isinstance(average, bool):
        raise refused("average", "True or False", average)
    if schedule.unit == "fraction":
        raise refused("unit", "'epoch' or 'step', which n is counted in", schedule.unit)
    initial, target = schedule.ends()
    if not schedule.is_running(epoch):
        return initial
    if periods(epoch, schedule.start_epoch, 1)[0] % n:
        return initial
    return initial + n * (target - initial) if average else target


def cyclic(schedule: Schedule, epoch: float, *, period: float) -> float:
    """Alternate between the initial and the target value in straight lines.

    With s the start, e the end, x the epoch and f = ((x - s) mod period)/period: i + (t - i)·(1 - abs(2f - 1)) where
    s ≤ x < e, otherwise i, where i = initial and t = target.

    Args:
        schedule: Start, end and the two values. Without an end it never stops.
        epoch: The epoch (or step), fractions included.
        period: Epochs (or steps) from one initial value to the next, above 0.

    Returns:
        The initial value at the start and after each period, the target value half a period later.

    Raises:
        ScheduleError: If `period` is not above 0.

    Example:
        >>> curve = Schedule(initial_value=0.0, target_value=1.0)
        >>> [cyclic(curve, epoch, period=20) for epoch in (0, 5, 10, 15, 20)]
        [0.0, 0.5, 1.0, 0.5, 0.0]

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.2 (the triangular
    policy; a period is two of its step sizes).
    """
    length("period", period, schedule)
    initial, target = schedule.ends()
    if not schedule.is_running(epoch):
        return initial
    phase = (epoch - schedule.start_epoch) % period / period
    return interpolate(initial, target, 1.0 - abs(2.0 * phase - 1.0))


def piecewise_linear(schedule: Schedule, epoch: float, *, points: Sequence[Sequence[float]]) -> float:
    """Go from point to point in straight lines.

    Between the points (a, v) and (b, w): v + (w - v)·(x - a)/(b - a), where x is the epoch, clamped to start and end.
    Before the first point the value is that of the first point, after the last point that of the last. The initial and
    the target value of the schedule are ignored.

    Args:
        schedule: Start and end, outside of which the value is constant; by default there are none.
        epoch: The epoch (or step), fractions included.
        points: Pairs of an epoch (or step) and the value there, each later than the one before.

    Raises:
        ScheduleError: If `points` are anything else.

    Example:
        >>> points = [[0, 0.0], [10, 1.0], [100, 1.0], [200, 0.0]]
        >>> [piecewise_linear(Schedule(), epoch, points=points) for epoch in (0, 5, 50, 150, 300)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    try:
        epochs, values = zip(*points, strict=True)
        finite = all(map(isfinite, values))
    except (TypeError, ValueError, OverflowError):
        finite = False
    if not finite:
        raise refused("points", "a list of pairs [epoch, value] of finite numbers", points)
    increasing("the epochs of points", epochs, *positions(schedule))
    now = schedule.until_end(max(epoch, schedule.start_epoch))
    after = bisect_right(epochs, now)
    if after in (0, len(epochs)):
        return float(values[max(after - 1, 0)])
    begin, end = epochs[after - 1 : after + 1]
    return interpolate(values[after - 1], values[after], (now - begin) / (end - begin))
