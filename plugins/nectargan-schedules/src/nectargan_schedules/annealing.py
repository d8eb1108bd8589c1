"""Curves from the initial value to the target value, once or repeatedly."""

from __future__ import annotations

from math import pi, sin, tanh

from nectargan_core import Schedule, interpolate
from nectargan_schedules.parameters import above_zero, length, whole
from nectargan_schedules.periods import periods, slack

_QUARTER_TURN = 0.5 * pi


def cosine(schedule: Schedule, epoch: float) -> float:
    """Go from the initial to the target value along half a cosine, which is slow at both ends.

    With p = progress, i = initial and t = target: t + (i - t)·(1 + cos πp)/2, exact at both ends.

    Args:
        schedule: Start, end and the two values.
        epoch: The epoch (or step), fractions included.

    Returns:
        The initial value up to the start, the target value from the end on.

    Raises:
        ScheduleError: If the schedule has no end.

    Example:
        >>> cosine(Schedule(end=100, initial_value=10.0, target_value=0.0), 25)
        8.535533905932738

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, equation 5.
    """
    initial, target = schedule.ends()
    return interpolate(initial, target, half_cosine(schedule.progress(epoch)))


def half_cosine(progress: float) -> float:
    """Return (1 - cos πp)/2, which rises from 0 to 1 along half a cosine, exact at both ends."""
    # Computed as sin², since 1 - cos loses precision near 0.
    root = sin(_QUARTER_TURN * progress)
    return root * root


def cosine_restarts(schedule: Schedule, epoch: float, *, period: float, multiplier: int = 1) -> float:
    """Go to the target value along half a cosine in each period, and jump back to the initial value after it.

    Period k is period·multiplier^k epochs long. At τ epochs after the beginning of a period of length T:
    t + (i - t)·(1 + cos πτ/T)/2, where i = initial and t = target.

    Args:
        schedule: Start, end and the two values; the first period begins at the start. Without an end it never
            stops.
        epoch: The epoch (or step), fractions included.
        period: Epochs (or steps) of the first period, above 0.
        multiplier: The length of each period divided by that of the one before, an integer of at least 1.

    Returns:
        The initial value up to the start and at each restart, the target value from the end on.

    Raises:
        ScheduleError: If a parameter is out of its range.

    Example:
        >>> curve = Schedule(initial_value=1.0, target_value=0.0)
        >>> [round(cosine_restarts(curve, epoch, period=10, multiplier=2), 2) for epoch in (0, 5, 10, 20, 30)]
        [1.0, 0.5, 1.0, 0.5, 1.0]

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, section 3.
    """
    length("period", period, schedule)
    whole("multiplier", multiplier)
    initial, target = schedule.ends()
    if schedule.end_epoch is not None and epoch >= schedule.end_epoch:
        return target
    since = epoch - schedule.start_epoch
    if since <= 0.0:
        return initial
    if multiplier == 1:
        _, since = periods(epoch, schedule.start_epoch, period)
    else:
        close = slack(epoch, schedule.start_epoch)
        period = float(period)  # An int would grow beyond what compares with a float.
        # Each period is at least twice as long as the one before, so that the loop is short.
        while since >= period - close:
            since -= period
            period *= multiplier
    return interpolate(initial, target, half_cosine(max(since, 0.0) / period))


def polynomial(schedule: Schedule, epoch: float, *, power: float = 1.0) -> float:
    """Go from the initial to the target value along a power of the remaining progress.

    With p = progress, i = initial and t = target: t + (i - t)·(1 - p)^power, exact at both ends. A power of 1 is a
    straight line; with a power above 1 the curve is fast at first, below 1 fast at the end.

    Args:
        schedule: Start, end and the two values.
        epoch: The epoch (or step), fractions included.
        power: The exponent, above 0.

    Returns:
        The initial value up to the start, the target value from the end on.

    Raises:
        ScheduleError: If `power` is not above 0, or the schedule has no end.

    Example:
        >>> polynomial(Schedule(end=100, initial_value=10.0, target_value=0.0), 50, power=2.0)
        2.5

    Source: Chen et al., "DeepLab", IEEE TPAMI 40(4), 2018, section 4.1 (as "poly", with a power of 0.9).
    """
    above_zero("power", power)
    initial, target = schedule.ends()
    return interpolate(target, initial, (1.0 - schedule.progress(epoch)) ** power)


def sigmoid(schedule: Schedule, epoch: float, *, steepness: float = 10.0) -> float:
    """Go from the initial to the target value along a logistic curve, stretched so that it is exact at both ends.

    With p = progress, i = initial, t = target, k = steepness and S(z) = 1/(1 + e^-z):
    i + (t - i)·(S(k(p - ½)) - S(-k/2))/(S(k/2) - S(-k/2)).

    Args:
        schedule: Start, end and the two values.
        epoch: The epoch (or step), fractions included.
        steepness: How steep the middle is, above 0: nearly a straight line close to 0, nearly a jump above 100.

    Returns:
        The initial value up to the start, the target value from the end on.

    Raises:
        ScheduleError: If `steepness` is not above 0, or the schedule has no end.

    Example:
        >>> curve = Schedule(end=100, initial_value=0.0, target_value=1.0)
        >>> [round(sigmoid(curve, epoch), 3) for epoch in (0, 25, 50, 75, 100)]
        [0.0, 0.07, 0.5, 0.93, 1.0]

    Source: Bowman et al., "Generating Sentences from a Continuous Space", CoNLL 2016, section 3.1, where it anneals the
    weight of the KL term of a VAE.
    """
    above_zero("steepness", steepness)
    initial, target = schedule.ends()
    progress = schedule.progress(epoch)
    # The same formula with tanh(z/2) = 2·S(z) - 1, which cannot overflow.
    height = tanh(0.25 * steepness)
    if height == 0.0:
        return interpolate(initial, target, progress)
    fraction = 0.5 + 0.5 * tanh(0.25 * steepness * (2.0 * progress - 1.0)) / height
    return interpolate(initial, target, fraction)
