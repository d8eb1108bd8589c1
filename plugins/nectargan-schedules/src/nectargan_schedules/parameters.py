"""Checks of the parameters of curves: each error names the parameter, what it must be, and what was given."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from operator import index, lt

from nectargan_core import Schedule
from nectargan_core.errors import ScheduleError

_LARGEST = sys.float_info.max
# The limit for the start and end of a schedule: consecutive integers beyond it may round to the same float.
_FARTHEST = 2**53


def number(
    name: str, value: float, expected: str = "a finite number", low: float = -_LARGEST, high: float = _LARGEST
) -> None:
    """Refuse a value that is not a finite number from `low` to `high`, both included."""
    try:
        # The addition raises for text, and for an int that is too large for a float.
        if low <= value + 0.0 <= high:
            return
    except (TypeError, ValueError, OverflowError):
        pass
    raise refused(name, expected, value)


def above_zero(name: str, value: float) -> None:
    """Refuse a value that is not a finite number above 0."""
    try:
        if 0.0 < value + 0.0 <= _LARGEST:
            return
    except (TypeError, ValueError, OverflowError):
        pass
    raise refused(name, "a finite number above 0", value)


def length(name: str, value: float, schedule: Schedule) -> None:
    """Refuse a value that is not a length above 0 in the unit of a schedule."""
    above_zero(name, value)
    if schedule.unit == "fraction" and value > 1.0:
        raise refused(name, "a fraction of the run, above 0 and at most 1", value)


def share(name: str, value: float) -> None:
    """Refuse a value that is not a number from 0 to 1."""
    number(name, value, "a number from 0 to 1", 0.0, 1.0)


def whole(name: str, value: int) -> None:
    """Refuse a value that is not an integer of at least 1."""
    try:
        if 1 <= index(value) <= _FARTHEST:
            return
    except TypeError:
        pass
    raise refused(name, "an integer of at least 1", value)


def positions(schedule: Schedule) -> tuple[float, float]:
    """Return the first and the last position in the unit of a schedule, whatever its start and end are."""
    return (0, 1) if schedule.unit == "fraction" else (-_FARTHEST, _FARTHEST)


def increasing(name: str, epochs: Sequence[float], start: float, end: float) -> None:
    """Refuse a list that is empty, or is not of increasing epochs from `start` to `end`."""
    try:
        valid = start <= epochs[0] and epochs[-1] <= end and all(map(lt, epochs, epochs[1:]))
    except (TypeError, LookupError):
        valid = False
    if not valid:
        raise refused(name, f"numbers from {start:g} to {end:g}, each larger than the one before", epochs)


def refused(name: str, expected: str, value: object) -> ScheduleError:
    """Return the error that names a parameter, what it must be and what was given."""
    return ScheduleError(f"{name} must be {expected}, got {value!r}")
