"""The checks of the numbers that losses are made with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

from torch import Tensor


def not_negative(owner: str, name: str, value: object, most: float = math.inf) -> float:
    """Return a finite number of at least 0.

    Args:
        owner: The loss that is made, for the message.
        name: The argument.
        value: What it was given.
        most: The greatest number that it may be.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is below 0, above `most`, or not finite.

    Example:
        >>> not_negative("Focal", "gamma", 2)
        2.0
    """
    expected = "a number, at least 0" if most == math.inf else f"a number from 0 to {most:g}"
    if not _is_number(value):
        raise TypeError(f"{owner}: {name} is {expected}, got {value!r}")
    if not 0 <= value <= most or value == math.inf:
        raise ValueError(f"{owner}: {name} is {expected}, got {value!r}")
    return float(value)


def several(owner: str, name: str, value: object, what: str) -> tuple[float, ...]:
    """Return several numbers of at least 0, of which one is above 0.

    Args:
        owner: The loss that is made, for the message.
        name: The argument.
        value: What it was given: a sequence of numbers, or a tensor (n,).
        what: What there is a number for, for the message.

    Raises:
        TypeError: If it is no sequence of numbers.
        ValueError: If it is empty, a number is below 0 or not finite, or all are 0.

    Example:
        >>> several("Dice", "class_weights", [0, 1], "class")
        (0.0, 1.0)
    """
    expected = f"a sequence of numbers of at least 0, one for each {what}, of which one is above 0"
    given = value.tolist() if isinstance(value, Tensor) else value
    if not isinstance(given, Sequence) or not all(map(_is_number, given)):
        raise TypeError(f"{owner}: {name} is {expected}, got {value!r}")
    if not all(0 <= each < math.inf for each in given) or not any(given):
        raise ValueError(f"{owner}: {name} is {expected}, got {value!r}")
    return tuple(map(float, given))


def whole(owner: str, name: str, value: object) -> int:
    """Return an integer.

    Raises:
        TypeError: If it is none.

    Example:
        >>> whole("Dice", "ignore_index", 255)
        255
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{owner}: {name} is an integer, got {value!r}")
    return value


def yes_or_no(owner: str, **values: object) -> None:
    """Raise `TypeError` for an argument that is no bool.

    Example:
        >>> yes_or_no("Dice", batch=True, sigmoid=False)
    """
    for name, value in values.items():
        if not isinstance(value, bool):
            raise TypeError(f"{owner}: {name} is True or False, got {value!r}")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
