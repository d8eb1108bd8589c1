"""Curves that first rise to the initial value, and then go to the target value."""

from __future__ import annotations

from nectargan_core import Schedule, interpolate
from nectargan_core.errors import ScheduleError
from nectargan_schedules.annealing import half_cosine
from nectargan_schedules.parameters import number, refused, share
from nectargan_schedules.periods import slack


def warmup_cosine(schedule: Schedule, epoch: float, *, warmup: float, begin: float = 0.0) -> float:
    """Rise to the initial value in a straight line, then go to the target value along half a cosine.

    With i = initial, t = target, w = warmup, s the start, e the end and τ epochs after the start: i·(begin +
    (1 - begin)·τ/w) while τ < w, then t + (i - t)·(1 + cos πq)/2, where q = (τ - w)/(e - s - w).

    Args:
        schedule: Start, end, the initial value at the end of the rise, and the target value.
        epoch: The epoch (or step), fractions included.
        warmup: Epochs (or steps) of the rise, from 0 to end - start.
        begin: The share of the initial value that the rise begins at, from 0 to 1.

    Returns:
        The share `begin` of the initial value up to the start, the initial value at the end of the rise, the target
        value from the end on.

    Raises:
        ScheduleError: If a parameter is out of its range, or the schedule has no end.

    Example:
        >>> curve = Schedule(end=110, initial_value=2.0, target_value=0.0)
        >>> [round(warmup_cosine(curve, epoch, warmup=10), 6) for epoch in (0, 5, 10, 60, 110)]
        [0.0, 1.0, 2.0, 1.0, 0.0]

    Source: Goyal et al., "Accurate, Large Minibatch SGD", arXiv:1706.02677, section 2.2, for the rise; Loshchilov and
    Hutter, ICLR 2017, for the cosine.
    """
    number("warmup", warmup, "a finite number of at least 0", 0.0)
    share("begin", begin)
    start, end = schedule.span()
    rest = end - start - warmup
    if -slack(end, start) <= rest < 0.0:
        rest = 0.0  # 0.7 - 0.4 is less than 0.3.
    if rest < 0.0:
        raise ScheduleError(f"warmup must end before the schedule does, got {warmup:g} from {start:g} to {end:g}")
    initial, target = schedule.ends()
    since = epoch - start
    if epoch >= end:
        return target
    if since < warmup or since <= 0.0:
        return interpolate(begin * initial, initial, since / warmup if warmup else 1.0)
    return interpolate(initial, target, half_cosine((since - warmup) / rest if rest else 1.0))


def one_cycle(schedule: Schedule, epoch: float, *, rise: float = 0.3, begin: float = 0.04) -> float:
    """Rise to the initial value along half a cosine, then go to the target value along another.

    With p = progress, i = initial, t = target, r = rise, b = begin·i and c(q) = (1 + cos πq)/2: i + (b - i)·c(p/r)
    while p < r, then t + (i - t)·c((p - r)/(1 - r)).

    Args:
        schedule: Start, end, the initial value at the end of the rise, and the target value.
        epoch: The epoch (or step), fractions included.
        rise: The share of the time from start to end that the rise takes, between 0 and 1.
        begin: The share of the initial value that the rise begins at, from 0 to 1.

    Returns:
        The share `begin` of the initial value up to the start, the initial value at the end of the rise, the target
        value from the end on.

    Raises:
        ScheduleError: If a parameter is out of its range, or the schedule has no end.

    Example:
        >>> curve = Schedule(end=100, initial_value=1.0, target_value=0.0)
        >>> [round(one_cycle(curve, epoch), 6) for epoch in (0, 15, 30, 65, 100)]
        [0.04, 0.52, 1.0, 0.5, 0.0]

    Source: Smith and Topin, "Super-Convergence", arXiv:1708.07120, with the cosines and the defaults of
    `torch.optim.lr_scheduler.OneCycleLR`.
    """
    share("rise", rise)
    if rise in (0.0, 1.0):
        raise refused("rise", "a number between 0 and 1", rise)
    share("begin", begin)
    initial, target = schedule.ends()
    progress = schedule.progress(epoch)
    if progress < rise:
        return interpolate(begin * initial, initial, half_cosine(progress / rise))
    return interpolate(initial, target, half_cosine((progress - rise) / (1.0 - rise)))
