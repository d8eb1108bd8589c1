"""What parameters may be: each check names the parameter, what it must be, and what arrived."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from operator import index, lt

from nectargan_core.errors import ScheduleError

_LARGEST = sys.float_info.max
# As far as the start and end of a schedule go: beyond, a float does not tell one step from the next.
_FARTHEST = 2**53


def number(
    name: str, value: float, expected: str = "a finite number", low: float = -_LARGEST, high: float = _LARGEST
) -> None:
    """Refuse what is no finite number from `low` to `high`, both included."""
    try:
        # The sum refuses text, and an int that no float can hold.
        if low <= value + 0.0 <= high:
            return
    except (TypeError, ValueError, OverflowError):
        pass
    raise refused(name, expected, value)


def above_zero(name: str, value: float) -> None:
    """Refuse what is no finite number above 0."""
    try:
        if 0.0 < value + 0.0 <= _LARGEST:
            return
    except (TypeError, ValueError, OverflowError):
        pass
    raise refused(name, "a finite number above 0", value)


def share(name: str, value: float) -> None:
    """Refuse what is no number from 0 to 1."""
    number(name, value, "a number from 0 to 1", 0.0, 1.0)


def whole(name: str, value: int) -> None:
    """Refuse what is no integer of at least 1."""
    try:
        if 1 <= index(value) <= _FARTHEST:
            return
    except TypeError:
        pass
    raise refused(name, "an integer of at least 1", value)


def increasing(name: str, epochs: Sequence[float], start: float = -_FARTHEST, end: float = _FARTHEST) -> None:
    """Refuse what are no epochs from start to end, each later than the one before, or none at all."""
    try:
        valid = start <= epochs[0] and epochs[-1] <= end and all(map(lt, epochs, epochs[1:]))
    except (TypeError, LookupError):
        valid = False
    if not valid:
        raise refused(name, f"numbers from {start:g} to {end:g}, each larger than the one before", epochs)


def refused(name: str, expected: str, value: object) -> ScheduleError:
    """Make the error that names a parameter, what it must be and what it is."""
    return ScheduleError(f"{name} must be {expected}, got {value!r}")
