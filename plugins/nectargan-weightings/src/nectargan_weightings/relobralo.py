"""`relobralo`: a loss that falls less than others gets more weight, smoothed, with looks back at the start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from nectargan_core import WeightingStep
from nectargan_weightings.draws import uniform
from nectargan_weightings.parameters import above_zero, by_name, integer, share
from nectargan_weightings.softmax import softmax

_EPSILON = 1e-12


class ReLoBRaLo:
    """Weigh losses by how they changed since the last call and, now and then, since the first.

    With n the number of losses, T the temperature and b_i(t, u) = n·softmax_i(L_i(t)/(T·L_i(u) + 1e-12)), the factors
    at call t are f_i(t) = alpha·h_i(t) + (1 - alpha)·b_i(t, t-1), where h_i(t) is f_i(t-1) with probability rho, and
    otherwise, at a look back, b_i(t, 0). One draw counts for all losses.

    As in the authors' code, the first call gives 1 and the second b_i(1, 0). That holds for each loss on its own, so
    that one that joins later begins in the same way. b_i is 1 for a loss whose reference L_i(u) is not above 0, and
    the others share their number. A loss whose value is not finite keeps its factor, and the value is not kept.

    Args:
        alpha: How much of the factors before is kept, from 0 to 1.
        temperature: T, above 0. The larger, the closer factors are to 1.
        rho: The probability that there is no look back, from 0 to 1.
        seed: Together with the step it determines the draw, so that a resumed run and each rank of a distributed run
            draw the same. An integer from 0 to 2**63 - 1.

    Raises:
        TypeError: If a parameter has another type.
        ValueError: If a parameter is out of its range.

    Example:
        >>> from types import SimpleNamespace
        >>> weighting = ReLoBRaLo(temperature=1.0)
        >>> for step, values in enumerate([[8.0, 8.0], [4.0, 8.0]]):
        ...     factors = weighting.factors(SimpleNamespace(names=("a", "b"), values=values, step=step))
        >>> [round(factor, 4) for factor in factors]  # a halved, b stayed
        [0.7551, 1.2449]

    Source: Bischof and Kraus, "Multi-Objective Loss Balancing for Physics-Informed Deep Learning", 2021. The defaults
    are those of the authors' article on it. Their script (`relative_balancing`) has a temperature of 1 and a rho of 1,
    so that it never looks back, and takes the second values as the first; the paper has 0.1 and 0.9999 for Burgers'
    equation.
    """

    needs: ClassVar = "values"

    def __init__(self, *, alpha: float = 0.999, temperature: float = 0.1, rho: float = 0.99, seed: int = 0) -> None:
        self.alpha = share("alpha", alpha)
        self.temperature = above_zero("temperature", temperature)
        self.rho = share("rho", rho)
        self.seed = integer("seed", seed, 0, 2**63 - 1)
        # By loss name: the first value and the last, the last factor, and the number of calls.
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._factors: dict[str, float] = {}
        self._calls: dict[str, float] = {}

    def factors(self, step: WeightingStep) -> list[float]:
        """Return the factors of this call."""
        values = {name: value for name, value in zip(step.names, step.values, strict=True) if math.isfinite(value)}
        since_last = self._balanced(values, self._last)
        since_first = self._balanced(values, self._first)
        is_look_back = uniform(self.seed, step.step) > self.rho
        for name, value in values.items():
            calls = self._calls.get(name, 0.0)
            if calls == 0.0:
                factor = 1.0
                self._first[name] = value
            elif calls == 1.0:
                factor = since_last[name]
            else:
                before = since_first[name] if is_look_back else self._factors[name]
                factor = self.alpha * before + (1.0 - self.alpha) * since_last[name]
            self._factors[name] = factor
            self._last[name] = value
            self._calls[name] = calls + 1.0
        return [self._factors.get(name, 1.0) for name in step.names]

    def state_dict(self) -> dict[str, Any]:
        """Return values, factors and numbers of calls, by loss name."""
        return {
            "first": dict(self._first),
            "last": dict(self._last),
            "factors": dict(self._factors),
            "calls": dict(self._calls),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of `state_dict`.

        Raises:
            ValueError: If it is something else.
        """
        first, last, factors, calls = (by_name(state, key) for key in ("first", "last", "factors", "calls"))
        if not first.keys() == last.keys() == factors.keys() == calls.keys():
            raise ValueError(f"the state of a weighting must have the same losses under each key, got {list(calls)}")
        self._first, self._last, self._factors, self._calls = first, last, factors, calls

    def _balanced(self, values: Mapping[str, float], references: Mapping[str, float]) -> dict[str, float]:
        scores = {
            name: value / (reference * self.temperature + _EPSILON)
            for name, value in values.items()
            if (reference := references.get(name, 0.0)) > 0.0
        }
        return dict.fromkeys(values, 1.0) | softmax(scores)
