"""The checks of the numbers that losses are made with."""

from __future__ import annotations

import math


def number(owner: str, name: str, value: object, expected: str) -> float:
    """Return a finite number that an argument has.

    Args:
        owner: The loss that is made, for the message.
        name: The argument.
        value: What it was given.
        expected: What it may be, in words.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not finite.

    Example:
        >>> number("FocalFrequency", "alpha", 1, "a number, at least 0")
        1.0
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{owner}: {name} is {expected}, got {value!r}")
    try:
        converted = float(value)
    except OverflowError:
        converted = math.inf
    if not math.isfinite(converted):
        raise ValueError(f"{owner}: {name} is {expected}, got {value!r}")
    return converted


def positive(owner: str, name: str, value: object) -> float:
    """Return a number above 0.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not above 0, or not finite.

    Example:
        >>> positive("Huber", "delta", 0.5)
        0.5
    """
    expected = "a number above 0"
    if (found := number(owner, name, value, expected)) <= 0:
        raise ValueError(f"{owner}: {name} is {expected}, got {value!r}")
    return found


def not_negative(owner: str, name: str, value: object) -> float:
    """Return a number of at least 0.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is below 0, or not finite.

    Example:
        >>> not_negative("Color", "hue", 0)
        0.0
    """
    expected = "a number, at least 0"
    if (found := number(owner, name, value, expected)) < 0:
        raise ValueError(f"{owner}: {name} is {expected}, got {value!r}")
    return found


def image_range(owner: str, value: object) -> tuple[float, float]:
    """Return the range of the values of images: the value of black, and that of white.

    Raises:
        TypeError: If it is no pair of numbers.
        ValueError: If the numbers are not finite, or the first is not below the second.

    Example:
        >>> image_range("LDL", [0, 255])
        (0.0, 255.0)
    """
    expected = "a pair of two numbers, such as (-1.0, 1.0), of which the first is the smaller one"
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{owner}: input_range is {expected}, got {value!r}")
    low, high = (number(owner, "input_range", end, expected) for end in value)
    if not low < high:
        raise ValueError(f"{owner}: input_range is {expected}, got {value!r}")
    return low, high
