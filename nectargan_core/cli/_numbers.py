"""How commands write numbers as JSON."""

from __future__ import annotations

import math


def as_json(value: float | None) -> float | str | None:
    """Return what JSON holds of a number: one that is not finite is text, as in a log.

    Example:
        >>> as_json(0.5), as_json(float("-inf")), as_json(None)
        (0.5, '-inf', None)
    """
    return value if value is None or math.isfinite(value) else str(value)
