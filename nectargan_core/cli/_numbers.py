"""How commands write numbers: short in tables, and in JSON whatever they are."""

from __future__ import annotations

import math


def short(value: float | None) -> str:
    """Return a number with four significant digits for a table; empty for None.

    Example:
        >>> [short(value) for value in (0.0985131, 1234567.0, 2e-4, float("nan"), 0.0, 100.0, None)]
        ['0.09851', '1.235e+06', '0.0002', 'nan', '0', '100', '']
    """
    return "" if value is None else f"{value:.4g}"


def as_json(value: float | None) -> float | str | None:
    """Return what JSON holds of a number: one that is not finite is text, as in a log.

    Example:
        >>> as_json(0.5), as_json(float("-inf")), as_json(None)
        (0.5, '-inf', None)
    """
    return value if value is None or math.isfinite(value) else str(value)
