"""`Sums`: what the mean of a loss is made of, of which several can be added up before the mean is taken."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Sums(NamedTuple):
    """Sums over records of weighted values.

    Args:
        total: Of the values.
        records: How many values there are.
        by_size: Of each value times the size of its batch, where that is known.
        size: Of the sizes of the batches.
        unsized: How many values have a batch of unknown size.
    """

    total: float = 0.0
    records: float = 0
    by_size: float = 0.0
    size: float = 0
    unsized: float = 0

    def plus(self, other: Sums) -> Sums:
        """Return the sums over the records of both."""
        return Sums(*(own + more for own, more in zip(self, other, strict=True)))

    @property
    def mean(self) -> float:
        """The mean, weighed by the sizes of the batches where all of them are known; nan of no records."""
        if not self.records:
            return float("nan")
        return self.total / self.records if self.unsized else self.by_size / self.size


def sums_of(rows: npt.NDArray[np.void]) -> Sums:
    """Return the sums over records, but for those of a weight of 0 that left the function uncalled.

    Args:
        rows: The records, as an array with a field for each column.
    """
    skipped = (rows["weight"] == 0) & np.isnan(rows["unweighted"])
    rows = rows[~skipped]
    values, sizes = rows["loss"].tolist(), rows["batch"].tolist()
    if not any(sizes):
        return Sums(total=sum(values), records=len(values), unsized=len(values))
    by_size = sum(value * size for value, size in zip(values, sizes, strict=True) if size)
    return Sums(sum(values), len(values), by_size, sum(sizes), sizes.count(0))
