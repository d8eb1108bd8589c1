"""`softadapt`: a loss that rises, or falls less than others, gets more weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from nectargan_core import WeightingStep
from nectargan_weightings.parameters import choice, integer, is_finite, number
from nectargan_weightings.softmax import softmax

_VARIANTS = ("original", "normalized", "loss-weighted")
_EPSILON = 1e-8


class SoftAdapt:
    """Weigh losses by how fast they change, estimated by a finite difference of their last values.

    With s_i the slope of the last m + 1 values v_0, …, v_m of loss i, oldest first, n the number of losses:

    - s_i = Σ_k c_k·v_k, the forward difference of order m: c_0 = -Σ_{k=1…m} 1/k, c_k = (-1)^(k+1)·binomial(m, k)/k;
    - `original`: f = n·softmax(beta·s);
    - `normalized`: the same with s_i/(Σ_j abs(s_j) + 1e-8) in the place of s_i;
    - `loss-weighted`: f_i = n·u_i·exp(beta·s_i)/Σ_j u_j·exp(beta·s_j), where u_i is the mean of the values, or 0 where
      that is negative.

    The authors' weights sum to 1; here factors sum to n, as n factors of 1 do. Their code divides the normalized slopes
    by the sum of the slopes with their signs, which turns them around where that is negative. A loss keeps the factor 1
    until it has m + 1 values, and the others share their number. Values are those of the calls in which factors change
    (`every` of the definition); values that are not finite are left out.

    Args:
        beta: Above 0 for more weight to the worst loss, below 0 to the best. With 0 slopes have no effect. Finite.
        accuracy_order: m, an integer from 1 to 20.
        variant: `"original"`, `"normalized"` or `"loss-weighted"`. With the first, slopes depend on the unit of a
            loss. The authors recommend the last.

    Raises:
        TypeError: If a parameter has another type.
        ValueError: If a parameter is out of its range.

    Example:
        >>> from types import SimpleNamespace
        >>> weighting = SoftAdapt(beta=1.0, accuracy_order=1)
        >>> for values in [[2.0, 2.0], [1.0, 2.0]]:
        ...     factors = weighting.factors(SimpleNamespace(names=("a", "b"), values=values))
        >>> [round(factor, 4) for factor in factors]  # a fell by 1, b stayed
        [0.5379, 1.4621]

    Source: Heydari, Thompson and Mehmood, "SoftAdapt: Techniques for Adaptive Loss Weighting of Neural Networks with
    Multi-Part Loss Functions", 2019, section 3.1; the authors' package `softadapt`.
    """

    needs: ClassVar = "values"

    def __init__(self, *, beta: float = 0.1, accuracy_order: int = 4, variant: str = "original") -> None:
        self.beta = number("beta", beta, "a finite number")
        self.accuracy_order = integer("accuracy_order", accuracy_order, 1, 20)
        self.variant = choice("variant", variant, _VARIANTS)
        self._coefficients = _forward_difference(self.accuracy_order)
        # The last values of each loss, oldest first.
        self._values: dict[str, list[float]] = {}

    def factors(self, step: WeightingStep) -> list[float]:
        """Return the factors that follow from the last values, those of this step included."""
        for name, value in zip(step.names, step.values, strict=True):
            if math.isfinite(value):
                self._values[name] = [*self._values.get(name, ()), value][-len(self._coefficients) :]
        slopes = {name: slope for name in step.names if (slope := self._slope(name)) is not None}
        factors = softmax(self._scores(slopes))
        return [factors.get(name, 1.0) for name in step.names]

    def state_dict(self) -> dict[str, Any]:
        """Return the last values, by loss name."""
        return {"values": {name: list(values) for name, values in self._values.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of `state_dict`.

        Raises:
            ValueError: If it is something else.
        """
        given = state.get("values") if isinstance(state, Mapping) else None
        if not isinstance(given, Mapping) or not all(
            isinstance(values, Sequence) and all(map(is_finite, values)) for values in given.values()
        ):
            raise ValueError(
                f"the state of a weighting must have finite values by loss name under 'values', got {given!r}"
            )
        kept = len(self._coefficients)
        self._values = {name: list(map(float, values))[-kept:] for name, values in given.items()}

    def _slope(self, name: str) -> float | None:
        values = self._values.get(name, ())
        if len(values) < len(self._coefficients):
            return None
        slope = sum(each * value for each, value in zip(self._coefficients, values, strict=True))
        return slope if math.isfinite(slope) else None

    def _scores(self, slopes: Mapping[str, float]) -> dict[str, float]:
        if self.variant == "normalized":
            total = sum(map(abs, slopes.values())) + _EPSILON
            return {name: self.beta * (slope / total) for name, slope in slopes.items()}
        scores = {name: self.beta * slope for name, slope in slopes.items()}
        if self.variant == "loss-weighted":
            return {name: score + self._log_mean(name) for name, score in scores.items()}
        return scores

    def _log_mean(self, name: str) -> float:
        values = self._values[name]
        mean = sum(values) / len(values)
        return math.log(mean) if mean > 0.0 else -math.inf


def _forward_difference(order: int) -> list[float]:
    """Return the coefficients of the first derivative at the first of order + 1 points at distances of 1."""
    rest = [(-1.0) ** (k + 1) * math.comb(order, k) / k for k in range(1, order + 1)]
    return [-sum(1.0 / k for k in range(1, order + 1)), *rest]
