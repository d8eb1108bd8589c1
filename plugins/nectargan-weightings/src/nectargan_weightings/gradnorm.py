"""`gradnorm`: factors are learned so that the gradients of all losses are of one size, more where a loss lags."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from nectargan_core import WeightingStep
from nectargan_weightings.parameters import above_zero, at_least_zero, by_name

# Adam, by which factors are updated.
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8
_SMALLEST = 1e-3


class GradNorm:
    """Learn factors by which gradients with respect to a shared layer have the size that the progress asks for.

    With N_i the norm of the gradient of loss L_i, before any weight, with respect to `wrt`, n the number of losses, and
    means over losses:

    - G_i = f_i·N_i is the size of its gradient, and r_i = (L_i(t)/L_i(0))/mean(L(t)/L(0)) how far it is behind;
    - f_i goes down the gradient of Σ abs(G_i - C_i) with C_i = mean(G)·r_i^alpha taken as constant, which is
      sign(G_i - C_i)·N_i, by a step of Adam, so that the scale of the losses has no effect;
    - then f is limited to at least 0.001, and scaled so that it sums to n.

    A call returns the factors before its update, as in the paper; the first returns 1. Weights and schedules are no
    part of G, so that they set the sizes of the gradients relative to each other and are not undone.

    r_i is 1 for a loss whose first value is not above 0, and a negative value counts as 0. Where a value or norm is not
    finite, nothing is updated. Factors are kept by name, and those of the losses that run are scaled to their number.

    Args:
        alpha: How strongly a loss that is behind is favoured, at least 0. With 0 all gradients are of one size.
        lr: The learning rate of the factors, above 0.

    Raises:
        TypeError: If a parameter is no number.
        ValueError: If a parameter is out of its range.

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> step = SimpleNamespace(names=("a", "b"), values=[1.0, 1.0], norms=lambda: torch.tensor([3.0, 1.0]))
        >>> weighting = GradNorm()
        >>> for _ in range(1000):
        ...     factors = weighting.factors(step)
        >>> [round(factor, 1) for factor in factors]
        [0.5, 1.5]

    Source: Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks",
    ICML 2018, algorithm 1; the defaults are those of its experiments on NYUv2.
    """

    needs: ClassVar = "gradients"

    def __init__(self, *, alpha: float = 1.5, lr: float = 0.025) -> None:
        self.alpha = at_least_zero("alpha", alpha)
        self.lr = above_zero("lr", lr)
        # By loss name: the factor, the first value, and the two moments and the number of updates of Adam.
        self._factors: dict[str, float] = {}
        self._first: dict[str, float] = {}
        self._means: dict[str, float] = {}
        self._squares: dict[str, float] = {}
        self._updates: dict[str, float] = {}

    def factors(self, step: WeightingStep) -> list[float]:
        """Return the factors, and update them for the next call."""
        values = dict(zip(step.names, step.values, strict=True))
        norms = dict(zip(step.names, step.norms().tolist(), strict=True))
        factors = _scaled({name: self._factors.get(name, 1.0) for name in step.names})
        if all(map(math.isfinite, (*values.values(), *norms.values()))):
            self._update(factors, values, norms)
        return list(factors.values())

    def state_dict(self) -> dict[str, Any]:
        """Return factors, first values and what Adam keeps, by loss name."""
        return {
            "factors": dict(self._factors),
            "first": dict(self._first),
            "means": dict(self._means),
            "squares": dict(self._squares),
            "updates": dict(self._updates),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of `state_dict`.

        Raises:
            ValueError: If it is something else.
        """
        factors, first, means, squares, updates = (
            by_name(state, key) for key in ("factors", "first", "means", "squares", "updates")
        )
        if not factors.keys() == first.keys() == means.keys() == squares.keys() == updates.keys():
            raise ValueError(f"the state of a weighting must have the same losses under each key, got {list(factors)}")
        if not all(factor > 0.0 for factor in factors.values()):
            raise ValueError(f"the factors in the state of a weighting must be above 0, got {factors!r}")
        self._factors, self._first = factors, first
        self._means, self._squares, self._updates = means, squares, updates

    def _update(self, factors: Mapping[str, float], values: Mapping[str, float], norms: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._first.setdefault(name, value)
        sizes = {name: factor * norms[name] for name, factor in factors.items()}
        mean = sum(sizes.values()) / len(sizes)
        behind = self._behind(values)
        updated = {}
        for name, factor in factors.items():
            difference = sizes[name] - mean * behind[name]
            descent = self._adam(name, math.copysign(norms[name], difference) if difference else 0.0)
            updated[name] = max(factor - self.lr * descent, _SMALLEST)
        self._factors |= _scaled(updated)

    def _behind(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return r^alpha of each loss."""
        left = {name: max(value, 0.0) / first for name, value in values.items() if (first := self._first[name]) > 0.0}
        mean = sum(left.values()) / len(left) if left else 0.0
        if not 0.0 < mean < math.inf:
            return dict.fromkeys(values, 1.0)
        return {name: _power(left[name] / mean, self.alpha) if name in left else 1.0 for name in values}

    def _adam(self, name: str, gradient: float) -> float:
        """Return the direction in which Adam goes for a gradient, for a learning rate of 1."""
        count = self._updates[name] = self._updates.get(name, 0.0) + 1.0
        mean = self._means[name] = _BETA_1 * self._means.get(name, 0.0) + (1.0 - _BETA_1) * gradient
        square = self._squares[name] = _BETA_2 * self._squares.get(name, 0.0) + (1.0 - _BETA_2) * gradient * gradient
        mean /= 1.0 - math.pow(_BETA_1, count)
        return mean / (math.sqrt(square / (1.0 - math.pow(_BETA_2, count))) + _EPSILON)


def _scaled(factors: Mapping[str, float]) -> dict[str, float]:
    """Return factors that sum to their number."""
    scale = len(factors) / sum(factors.values())
    return {name: factor * scale for name, factor in factors.items()}


def _power(base: float, exponent: float) -> float:
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf
