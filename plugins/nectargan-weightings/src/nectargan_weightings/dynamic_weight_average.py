"""`dwa`: a loss that fell less than others over the last two epochs gets more weight (MTAN)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from nectargan_core import WeightingStep
from nectargan_weightings.parameters import above_zero, by_name
from nectargan_weightings.softmax import softmax


class DynamicWeightAverage:
    """Weigh losses by how their means changed from one epoch to the next.

    With L_i(e) the mean of loss i over the calls in epoch e, and n the number of losses, in each call of epoch e:
    r_i = L_i(e-1)/L_i(e-2) and f = n·softmax(r/T).

    Epochs are whole: the clock's epoch, rounded down, so the clock has to be given one (`manager.tick(epoch=epoch)`).
    The two epochs before are the last two in which there were calls. In the first two epochs factors are 1. A loss
    that did not run in both epochs before, or whose mean of the first of them is not above 0, keeps the factor 1, and
    the others share their number. Values that are not finite are left out of the means.

    Args:
        temperature: T, above 0. The larger, the closer factors are to 1.

    Raises:
        TypeError: If `temperature` is no number.
        ValueError: If `temperature` is not above 0.

    Example:
        >>> from types import SimpleNamespace
        >>> weighting = DynamicWeightAverage()
        >>> for epoch, values in enumerate([[8.0, 8.0], [4.0, 8.0], [1.0, 1.0]]):
        ...     factors = weighting.factors(SimpleNamespace(names=("a", "b"), values=values, epoch=epoch))
        >>> [round(factor, 4) for factor in factors]  # a halved, b stayed
        [0.8756, 1.1244]

    Source: Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019 (Dynamic Weight
    Average); the authors' code (`mtan`) has the same, with T = 2.
    """

    needs: ClassVar = "values"

    def __init__(self, *, temperature: float = 2.0) -> None:
        self.temperature = above_zero("temperature", temperature)
        self._epoch: int | None = None
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}
        # The means of the last epoch that ended, and of the one before that.
        self._last: dict[str, float] = {}
        self._before: dict[str, float] = {}

    def factors(self, step: WeightingStep) -> list[float]:
        """Return the factors of this epoch, and count the values for the next one."""
        self._begin_epoch(math.floor(step.epoch))
        for name, value in zip(step.names, step.values, strict=True):
            if math.isfinite(value):
                self._sums[name] = self._sums.get(name, 0.0) + value
                self._counts[name] = self._counts.get(name, 0.0) + 1.0
        factors = softmax(
            {
                name: self._last[name] / before / self.temperature
                for name in step.names
                if name in self._last and (before := self._before.get(name, 0.0)) > 0.0
            }
        )
        return [factors.get(name, 1.0) for name in step.names]

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch and the means, by loss name."""
        return {
            "epoch": self._epoch,
            "sums": dict(self._sums),
            "counts": dict(self._counts),
            "last": dict(self._last),
            "before": dict(self._before),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of `state_dict`.

        Raises:
            ValueError: If it is something else.
        """
        sums, counts, last, before = (by_name(state, key) for key in ("sums", "counts", "last", "before"))
        epoch = state.get("epoch", ...)
        if not (epoch is None or isinstance(epoch, int)):
            raise ValueError(f"the state of a weighting must have a whole epoch under 'epoch', got {epoch!r}")
        if sums.keys() != counts.keys() or not all(count > 0.0 for count in counts.values()):
            raise ValueError(f"the state of a weighting must have a count above 0 for each sum, got {counts!r}")
        self._epoch, self._sums, self._counts, self._last, self._before = epoch, sums, counts, last, before

    def _begin_epoch(self, epoch: int) -> None:
        if epoch != self._epoch and self._sums:
            self._before = self._last
            self._last = {name: total / self._counts[name] for name, total in self._sums.items()}
            self._sums, self._counts = {}, {}
        self._epoch = epoch
