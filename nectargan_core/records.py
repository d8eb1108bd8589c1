"""Records of one loss as arrays: joined, cut, and averaged per step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

_Numbers: TypeAlias = npt.NDArray[np.float64]

COLUMNS = ("step", "epoch", "loss", "weight", "unweighted")


@dataclass(frozen=True, eq=False)
class Records:
    """Records of one loss, as arrays of one length.

    Args:
        name: Name of the loss.
        step: Steps, int64.
        epoch: Epochs, float64.
        loss: Means of the weighted results, float64.
        weight: Weights applied, float64.
        unweighted: Means of the results before weighting, float64; nan where a weight of 0 left the function
            uncalled.
        count: How many records each entry stands for, int64; ones where it is not given.

    Example:
        >>> steps, ones = np.array([0, 0]), np.ones(2)
        >>> twice = Records("G_L1", steps, epoch=ones, loss=np.array([2.0, 4.0]), weight=ones, unweighted=ones)
        >>> mean = twice.per_step()
        >>> mean.step.tolist(), mean.loss.tolist(), mean.count.tolist()
        ([0], [3.0], [2])
    """

    name: str
    step: npt.NDArray[np.int64]
    epoch: _Numbers
    loss: _Numbers
    weight: _Numbers
    unweighted: _Numbers
    count: npt.NDArray[np.int64] = field(default_factory=lambda: np.ones(0, dtype=np.int64))

    def __post_init__(self) -> None:
        if len(self.count) != len(self.step):
            object.__setattr__(self, "count", np.ones(len(self.step), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.step)

    def before(self, step: int) -> Records:
        """Return the records of the steps before one."""
        kept = self.step < step
        columns = {name: getattr(self, name)[kept] for name in (*COLUMNS, "count")}
        return Records(self.name, **columns)

    def per_step(self) -> Records:
        """Return one entry per step, in the order of the steps.

        Each number is the mean over the records of the step, weighted by their counts; `count` is their sum. Of
        `unweighted` it is the mean of those that are not nan.
        """
        steps, where = np.unique(self.step, return_inverse=True)

        def sums(values: npt.NDArray[Any]) -> _Numbers:
            return np.bincount(where, weights=values, minlength=len(steps)).astype(np.float64)

        count = sums(self.count)
        known = np.where(np.isnan(self.unweighted), 0, self.count)
        with np.errstate(invalid="ignore"):
            return Records(
                self.name,
                step=steps,
                epoch=sums(self.epoch * self.count) / count,
                loss=sums(self.loss * self.count) / count,
                weight=sums(self.weight * self.count) / count,
                unweighted=sums(np.where(known, self.unweighted * known, 0.0)) / sums(known),
                count=count.astype(np.int64),
            )


def joined(name: str, parts: Iterable[Records]) -> Records:
    """Return the records of several parts as one, in the order of the parts."""
    nothing = np.zeros(0)
    empty = Records(name, np.zeros(0, dtype=np.int64), nothing, nothing, nothing, nothing)
    parts = [empty, *parts]
    columns = {column: np.concatenate([getattr(part, column) for part in parts]) for column in (*COLUMNS, "count")}
    return Records(name, **columns)
