"""Counts the periods since a start at positions that may be rounded, such as 0.3, which is less than 3·0.1."""

from __future__ import annotations

# What the rounding of position, start and period comes to at most, relative to the positions.
_ROUNDING = 2.0**-48


def slack(epoch: float, start: float) -> float:
    """Return how far before the end of a period a position may lie that is taken for the end.

    It makes no difference between whole numbers up to 2**46.
    """
    return _ROUNDING * (abs(epoch) + abs(start))


def periods(epoch: float, start: float, period: float) -> tuple[float, float]:
    """Return how many periods of one length have ended since a start, and how long ago the last one did.

    Args:
        epoch: The epoch (or step), fractions included.
        start: Where the first period begins, not after the epoch.
        period: The length, above 0.

    Example:
        >>> periods(0.3, 0.0, 0.1), 0.3 // 0.1
        ((3.0, 0.0), 2.0)
    """
    ended, since = divmod(epoch - start, period)
    return (ended + 1.0, 0.0) if since and period - since <= slack(epoch, start) else (ended, since)
