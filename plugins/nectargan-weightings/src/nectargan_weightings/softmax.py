"""The softmax of scores by name, times their number."""

from __future__ import annotations

import math
from collections.abc import Mapping


def softmax(scores: Mapping[str, float]) -> dict[str, float]:
    """Return factors that sum to the number of scores; equal scores give exactly 1 each.

    Args:
        scores: A number for each name; infinite ones are allowed.

    Example:
        >>> softmax({"a": 5000.0, "b": 5000.0})
        {'a': 1.0, 'b': 1.0}
        >>> softmax({"a": 1e308, "b": -1e308})
        {'a': 2.0, 'b': 0.0}
    """
    # Less the maximum, so that no power overflows. The maximum itself is left out, since it may be infinite.
    largest = max(scores.values(), default=0.0)
    powers = {name: 1.0 if score == largest else math.exp(score - largest) for name, score in scores.items()}
    scale = len(powers) / sum(powers.values()) if powers else 0.0
    return {name: power * scale for name, power in powers.items()}
