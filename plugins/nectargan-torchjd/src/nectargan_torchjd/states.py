"""Reading of states: plain data by the name of the loss."""

from __future__ import annotations

import contextlib
import math
import reprlib
from collections.abc import Mapping


def entry(state: object, key: str) -> Mapping[str, object]:
    """Return one mapping of a state.

    Raises:
        ValueError: If the state does not have it.
    """
    found = state.get(key) if isinstance(state, Mapping) else None
    if not isinstance(found, Mapping):
        raise ValueError(f"the state must be a dict with a dict {key!r}, got {reprlib.repr(state)}")
    return found


def numbers(values: Mapping[str, object], key: str, low: float = -math.inf) -> dict[str, float]:
    """Return numbers of at least `low` by the name of the loss.

    Raises:
        ValueError: If a value is none.
    """
    found = {}
    for name, value in values.items():
        number = math.nan
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):
                number = float(value)
        if not (math.isfinite(number) and number >= low):
            least = f" of at least {low:g}" if math.isfinite(low) else ""
            raise ValueError(f"{key!r} of a state has finite numbers{least}, got {reprlib.repr(value)} for {name!r}")
        found[name] = number
    return found
