"""Curves that multiply the initial value by factors, and stop at the target value if there is one."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from nectargan_core import Schedule, interpolate
from nectargan_core.errors import ScheduleError
from nectargan_schedules.parameters import increasing, length, number, positions, share
from nectargan_schedules.periods import periods


def step(schedule: Schedule, epoch: float, *, every: float, gamma: float = 0.1) -> float:
    """Multiply the initial value by gamma at regular intervals.

    With i = initial, t = target, x the epoch, s the start and e the end: i·gamma^⌊(min(x, e) - s)/every⌋ from the start
    on, but never past t, if that is set.

    Args:
        schedule: Start, initial value, and the target value at which the curve stops. The end is the last epoch at
            which the value may change.
        epoch: The epoch (or step), fractions included.
        every: Epochs (or steps) from one change to the next, above 0.
        gamma: The factor, at least 0. One above 1 needs a target that stops it.

    Returns:
        The initial value up to the first change.

    Raises:
        ScheduleError: If a parameter is out of its range, or gamma does not lead from the initial to the target value.

    Example:
        >>> curve = Schedule(initial_value=8.0, target_value=1.0)
        >>> [step(curve, epoch, every=30, gamma=0.5) for epoch in (0, 29, 30, 60, 90, 120)]
        [8.0, 8.0, 4.0, 2.0, 1.0, 1.0]

    Source: `torch.optim.lr_scheduler.StepLR`.
    """
    length("every", every, schedule)
    now = max(schedule.until_end(epoch), schedule.start_epoch)
    return _multiplied(schedule, gamma, periods(now, schedule.start_epoch, every)[0])


def multistep(schedule: Schedule, epoch: float, *, milestones: Sequence[float], gamma: float = 0.1) -> float:
    """Multiply the initial value by gamma at each milestone.

    With i = initial, t = target and n the number of milestones up to and including the epoch: i·gamma^n, but never past
    t, if that is set.

    Args:
        schedule: The initial value, and the target value at which the curve stops.
        epoch: The epoch (or step), fractions included.
        milestones: Epochs (or steps), each later than the one before, none outside of start and end.
        gamma: The factor, at least 0. One above 1 needs a target that stops it.

    Returns:
        The initial value up to the first milestone.

    Raises:
        ScheduleError: If a parameter is out of its range, or gamma does not lead from the initial to the target value.

    Example:
        >>> curve = Schedule(initial_value=1.0)
        >>> [multistep(curve, epoch, milestones=[30, 80], gamma=0.5) for epoch in (0, 30, 79, 80)]
        [1.0, 0.5, 0.5, 0.25]

    Source: `torch.optim.lr_scheduler.MultiStepLR`.
    """
    last = positions(schedule)[1] if schedule.end_epoch is None else schedule.end_epoch
    increasing("milestones", milestones, schedule.start_epoch, last)
    return _multiplied(schedule, gamma, bisect_right(milestones, epoch))


def inverse_sqrt(schedule: Schedule, epoch: float, *, warmup: float, begin: float = 0.0) -> float:
    """Rise to the initial value in a straight line, then fall with the square root of the time.

    With i = initial, t = target, w = warmup and τ epochs after the start (the end at most): i·(begin + (1 - begin)·τ/w)
    while τ < w, then i·√(w/τ), but never past t, if that is set.

    Args:
        schedule: Start, the initial value at the end of the rise, and the target value at which the fall stops. The
            end is the last epoch at which the value may change.
        epoch: The epoch (or step), fractions included.
        warmup: Epochs (or steps) of the rise, above 0.
        begin: The share of the initial value that the rise begins at, from 0 to 1; with 1 the value is constant until
            the fall.

    Returns:
        The share `begin` of the initial value up to the start, the initial value at the end of the rise.

    Raises:
        ScheduleError: If a parameter is out of its range, or the target is not between the initial value and 0.

    Example:
        >>> curve = Schedule(unit="step", initial_value=1.0)
        >>> [inverse_sqrt(curve, step, warmup=100) for step in (0, 50, 100, 400, 10_000)]
        [0.0, 0.5, 1.0, 0.5, 0.1]

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, equation 3.
    """
    length("warmup", warmup, schedule)
    share("begin", begin)
    since = schedule.until_end(epoch) - schedule.start_epoch
    if since >= warmup:
        return _shrunk(schedule, math.sqrt(warmup / since))
    # Checks the target during the rise too, so that an impossible target is an error from the first epoch on.
    height = _shrunk(schedule, 1.0)
    return interpolate(begin * height, height, since / warmup)


def _multiplied(schedule: Schedule, gamma: float, times: float) -> float:
    """Return the initial value times gamma^times, stopped at the target value."""
    number("gamma", gamma, "a finite number of at least 0", 0.0)
    if gamma <= 1.0:
        return _shrunk(schedule, gamma**times)
    initial, target = schedule.ends()
    if not (schedule.gives("target_value") and (0.0 < initial <= target or target <= initial < 0.0)):
        raise ScheduleError(
            f"gamma {gamma:g} grows without an end from initial_value {initial:g}; give a gamma of at most 1, or a "
            "target_value farther from 0 at which it stops"
        )
    try:
        value = initial * gamma**times
    except OverflowError:
        return target
    return target if abs(value) > abs(target) else value


def _shrunk(schedule: Schedule, factor: float) -> float:
    """Return the initial value times a factor of at most 1, stopped at the target value."""
    initial, target = schedule.ends()
    value = initial * factor
    if not schedule.gives("target_value"):
        return value
    if not (0.0 <= target <= initial or initial <= target <= 0.0):
        raise ScheduleError(
            f"a curve that shrinks goes from initial_value {initial:g} towards 0, never to target_value {target:g}; "
            "leave the target out, or give one between them"
        )
    return target if abs(value) < abs(target) else value
