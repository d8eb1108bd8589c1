"""Parameters of a schedule or weighting as plain data, so that what JSON gives back equals what was put in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from nectargan_core import _arguments as arguments
from nectargan_core._messages import shown

# Beyond this params would be too deep for what writes and compares them.
_DEEPEST = 50
# Python reads and writes integers of some 14,000 bits as text by default.
_LONGEST = 10_000


def _nothing(value: object) -> None:
    return None


def plain_params(
    params: Mapping[str, Any], nested: Callable[[object], object] = _nothing, held: str = "finite numbers, text"
) -> dict[str, Any]:
    """Copy parameters into plain types.

    Args:
        params: The parameters.
        nested: Returns the definition that a value is or describes, which has `params` itself; None for any other.
        held: What parameters may hold beside lists and dicts, for errors.

    Raises:
        ValueError: If one holds what no JSON can.

    Example:
        >>> plain_params({"milestones": (30, 60), "gamma": 0.5})
        {'milestones': [30, 60], 'gamma': 0.5}
    """

    def plain(value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            if not arguments.is_unicode(value):
                raise ValueError(f"params may hold text that UTF-8 can write only, got {shown(value)}")
            return str.__str__(value)
        if (definition := nested(value)) is not None:
            return definition
        if isinstance(value, Mapping):
            return items(value)
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        if isinstance(value, Integral):
            whole = int(value)
            if whole.bit_length() > _LONGEST:
                raise ValueError(f"params may hold integers of {_LONGEST} bits at most, got {shown(value)}")
            return whole
        if isinstance(value, Real):
            number = arguments.as_float(value)
            if number is None or not math.isfinite(number):
                raise ValueError(f"params may hold finite numbers only, got {shown(value)}")
            return number
        raise ValueError(f"params may hold {held}, lists and dicts of them, got {shown(value)}")

    def items(values: Mapping[Any, Any]) -> dict[str, Any]:
        if not all(isinstance(key, str) and arguments.is_unicode(key) for key in values):
            raise ValueError(f"params may hold dicts with str keys only, got {shown(values)}; give a list of pairs")
        return {str.__str__(key): plain(value) for key, value in values.items()}

    try:
        made = items(params)
        deep = _depth(made) > _DEEPEST
    except RecursionError:
        deep = True
    if deep:
        raise ValueError(f"params may be nested {_DEEPEST} deep at most, and may not contain themselves")
    return made


def _depth(value: Any) -> int:
    """Return how deeply lists, dicts and definitions are nested."""
    if not isinstance(value, (dict, list)):
        value = getattr(value, "params", None)
    if not isinstance(value, (dict, list)):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)
