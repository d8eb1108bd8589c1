"""Checks of parameters and of states: each error names what is wrong, what it must be, and what was given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any


def number(name: str, value: float, expected: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a finite number from `low` to `high`, both included.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is out of this range, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    try:
        given = float(value)
    except OverflowError:
        given = math.inf
    if not (math.isfinite(given) and low <= given <= high):
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    return given


def at_least_zero(name: str, value: float) -> float:
    """Return a finite number of at least 0."""
    return number(name, value, "a finite number of at least 0", low=0.0)


def above_zero(name: str, value: float) -> float:
    """Return a finite number above 0."""
    return number(name, value, "a finite number above 0", low=math.ulp(0.0))


def share(name: str, value: float) -> float:
    """Return a number from 0 to 1."""
    return number(name, value, "a number from 0 to 1", 0.0, 1.0)


def integer(name: str, value: int, low: int, high: int) -> int:
    """Return an integer from `low` to `high`, both included.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is out of this range.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, got {value!r}")
    return value


def choice(name: str, value: str, choices: Sequence[str]) -> str:
    """Return one of `choices`.

    Raises:
        TypeError: If it is no str.
        ValueError: If it is none of them.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.{hint(value, choices)}")
    return value


def hint(name: str, known: Sequence[str]) -> str:
    """Return the names of `known` that are close to a name as a question, or nothing."""
    lower = {each.lower(): each for each in known}
    close = [lower[each] for each in get_close_matches(name.lower(), lower, n=3)]
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def is_finite(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def by_name(state: Mapping[str, Any], key: str) -> dict[str, float]:
    """Return what a state has under a key: finite numbers by the names of losses.

    Raises:
        ValueError: If it is something else, or missing.
    """
    given = state.get(key) if isinstance(state, Mapping) else None
    if not isinstance(given, Mapping) or not all(
        isinstance(name, str) and is_finite(value) for name, value in given.items()
    ):
        raise ValueError(f"the state of a weighting must have finite numbers by loss name under {key!r}, got {given!r}")
    return {name: float(value) for name, value in given.items()}
