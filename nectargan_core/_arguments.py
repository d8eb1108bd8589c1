"""Checks of arguments, one for each kind: what passes comes back in a plain type, all else is a named error."""

from __future__ import annotations

import json
import math
import operator
import os
from collections.abc import Mapping
from numbers import Complex, Real
from pathlib import Path
from typing import Any

from nectargan_core._messages import one_line, shown

_TEXT = (str, bytes, bytearray)


def flag(what: str, value: object) -> bool:
    """Return True or False; raise `TypeError` for anything else."""
    if value is True or value is False:
        return value
    raise TypeError(f"{what} must be True or False, got {shown(value)}")


def one_of(what: str, value: object, options: tuple[str, ...]) -> str:
    """Return one of several words; raise `ValueError` for anything else."""
    word = str.__str__(value) if isinstance(value, str) else None
    if word not in options:
        raise ValueError(f"{what} must be {' or '.join(map(repr, options))}, got {shown(value)}")
    return word


def text(what: str, value: object) -> str:
    """Return a str; raise `TypeError` for what is none, `ValueError` for one that cannot be written to a file.

    Args:
        what: What the text is, for the error.
        value: What was given.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, got {shown(value)}")
    plain = str.__str__(value)
    if not is_unicode(plain):
        raise ValueError(
            f"{what} must be text that UTF-8 can write, without half of a surrogate pair, got {shown(plain)}"
        )
    return plain


def is_unicode(value: str) -> bool:
    """Whether UTF-8 can write a text, so that a log, a state or a configuration can hold it."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def scalar_name(what: str, value: object) -> str:
    """Return a name that is not empty and without `/`; raise `TypeError` for what is no str, else `ValueError`."""
    name = text(what, value)
    if not name or "/" in name:
        raise ValueError(f"{what} is not empty and has no '/', got {shown(name)}")
    return name


def as_float(value: object) -> float | None:
    """Return a number as a float, which may be nan or infinite; None for what is no number, or would lose something.

    Text, complex numbers, integers beyond the largest float and tensors that require a gradient are no numbers here.
    """
    kind = type(value)
    if kind is float:
        return value  # type: ignore[return-value] # that is what its type says
    if isinstance(value, _TEXT) or (isinstance(value, Complex) and not isinstance(value, Real)):
        return None
    try:
        if getattr(value, "requires_grad", False) is True:
            return None
        return float(value)  # type: ignore[arg-type] # whatever it is, float() decides
    except Exception:  # noqa: BLE001 # an object may raise anything
        return None


def batch_size(value: object) -> int:
    """Return the size of a batch, for which a record has 32 bits; raise as `whole` does."""
    return whole("batch_size", value, 1, 2**32 - 1)


def whole(what: str, value: object, low: float, high: float = 2**63 - 1) -> int:
    """Return an integer from `low` to `high`; raise `TypeError` for what is none, `ValueError` for one out of range."""
    number = None
    if not isinstance(value, bool):
        try:
            number = operator.index(value)  # type: ignore[arg-type] # whatever it is, index() decides
        except Exception:  # noqa: BLE001 # an object may raise anything
            number = None
    if number is None:
        raise TypeError(f"{what} must be an integer, got {shown(value)}")
    if not low <= number <= high:
        limit = f"at least {low}" + (" and below 2**63" if high == 2**63 - 1 else f" and at most {high}")
        raise ValueError(f"{what} must be {limit}, got {shown(number)}")
    return number


def epoch(value: object, what: str = "epoch") -> float:
    """Return an epoch as an int or float; raise `ValueError` for what is no finite number of at least 0."""
    number = as_float(value)
    if number is None or not 0 <= number < math.inf:
        raise ValueError(f"{what} must be a finite number of at least 0, got {shown(value)}")
    return value if type(value) is int else number


def length(what: str, value: object) -> float:
    """Return the length of a run as an int or float; raise `ValueError` for what is no finite number above 0."""
    number = None if isinstance(value, bool) else as_float(value)
    if number is None or not 0 < number < math.inf:
        raise ValueError(f"{what} must be a finite number above 0, got {shown(value)}")
    return value if type(value) is int else number


def totals(total_epochs: object, total_steps: object) -> tuple[float | None, int | None]:
    """Return the length of a run, in epochs or in steps, None for what is not given.

    Raises:
        TypeError: If the number of steps is no integer.
        ValueError: If a number is not above 0, or both are given.
    """
    epochs = None if total_epochs is None else length("total_epochs", total_epochs)
    steps = None if total_steps is None else whole("total_steps", total_steps, 1)
    if epochs is not None and steps is not None:
        raise ValueError(
            f"total_epochs ({epochs:g}) and total_steps ({steps}) are both given, and a fraction of the run is counted "
            "in one of them; give the one that schedules with unit='fraction' are to follow"
        )
    return epochs, steps


def mapping(what: str, value: object, example: str) -> dict[str, Any]:
    """Return a mapping from str as a dict; raise `TypeError` for anything else.

    Args:
        what: What the mapping is, for the error.
        value: What was given.
        example: How one is written, for the error.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} must be a mapping such as {example}, got {shown(value)}")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{what} must be a mapping such as {example}, got one with the key {shown(key)}")
    return dict(value)


def plain_data(what: str, value: object, example: str) -> dict[str, Any]:
    """Return a copy of a mapping from str as JSON holds it.

    Raises:
        TypeError: If it is no mapping from str.
        ValueError: If JSON cannot hold what is in it.
    """
    given = mapping(what, value, example)
    try:
        text = json.dumps(given, ensure_ascii=False, allow_nan=False)
        text.encode()
    except RecursionError:
        raise ValueError(f"{what} must be what JSON can hold, and is nested too deeply") from None
    except Exception as error:
        raise ValueError(f"{what} must be what JSON can hold: {one_line(error)}") from error
    copied: dict[str, Any] = json.loads(text)
    return copied


def path(what: str, value: object) -> Path:
    """Return a path; raise `TypeError` for what is none, `ValueError` for one that no file can have."""
    try:
        if not isinstance(value, (str, os.PathLike)):
            raise TypeError
        made = Path(value)
    except Exception:  # noqa: BLE001 # an object may raise anything
        raise TypeError(f"{what} must be a path, a str or a pathlib.Path, got {shown(value)}") from None
    try:
        named = b"\0" not in os.fsencode(made)
    except UnicodeEncodeError:
        named = False
    if not named:
        raise ValueError(f"{what} has a character that no file name can have, got {shown(str(made))}")
    return made
