"""`StepMeans`: one entry a step of records that come in parts, such as those of ranks, of which none is kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from nectargan_core.log._records import Records

_Array: TypeAlias = npt.NDArray[Any]
_Places: TypeAlias = "slice | npt.NDArray[np.intp]"
"""Where the steps of a part are among those of all parts."""


class StepMeans:
    """The means of columns at each step, over the records of any number of parts.

    The records of a step are weighed by the sizes of their batches where all of them have one, else by their counts. Of
    `unweighted` the mean is over those that are not nan. Where all records of a step have the same number, the mean is
    this number to the last digit, so that a weight that does not change is the same at all steps.

    Args:
        columns: The names of the columns of `Records` that are averaged.
    """

    def __init__(self, columns: Iterable[str]) -> None:
        self._step = np.zeros(0, dtype=np.int64)
        self._count = np.zeros(0, dtype=np.int64)
        # The sizes of the batches, and at which steps one is not known; None as long as none is known at all.
        self._batch: tuple[_Array, _Array] | None = None
        # None as long as no part has it.
        self._columns: dict[str, _Column | None] = dict.fromkeys(columns)

    def add(self, records: Records) -> None:
        """Take the records of another part."""
        if not len(records):
            return
        groups = _Groups(records.step)
        places = self._places(groups.step)
        sizes = records.batch if not _is_one_number(records.batch) and records.batch.any() else None
        if sizes is not None and self._batch is None:
            self._batch = np.zeros_like(self._count), self._count > 0
        before = self._count > 0
        is_new = ~before[places]
        self._count[places] += groups.sum(records.count)
        if self._batch is not None:
            total, unknown = self._batch
            total[places] += groups.sum(records.batch)
            unknown[places] |= groups.any(records.batch <= 0)
        counts = None if _is_one_number(records.count) and records.count[0] == 1 else records.count
        for name, column in self._columns.items():
            values = getattr(records, name)
            if column is None:
                if _is_one_number(values) and np.isnan(values[0]):
                    continue
                self._columns[name] = column = _Column(len(self._step), skips_nan=name == "unweighted")
                column.miss(before)
            column.add(groups, places, is_new, values, counts, sizes)

    def columns(self) -> dict[str, _Array]:
        """Return `step`, `count`, `batch` where any is known, and the mean of each column that any part has."""
        found: dict[str, _Array] = {"step": self._step.copy(), "count": self._count}
        by_batch, total = None, self._count.astype(np.float64)
        if self._batch is not None:
            sizes, unknown = self._batch
            by_batch, total = ~unknown, np.where(unknown, total, sizes)
            # A sum of those that are known would be taken for the size of all.
            found["batch"] = np.where(unknown, 0, sizes)
        for name, column in self._columns.items():
            if column is not None:
                found[name] = column.means(total, by_batch)
        return found

    def _places(self, steps: _Array) -> _Places:
        if not len(self._step):
            self._step, self._count = steps, np.zeros(len(steps), dtype=np.int64)
        if np.array_equal(self._step, steps):
            return slice(None)
        places = np.searchsorted(self._step, steps)
        if places[-1] < len(self._step) and np.array_equal(self._step[places], steps):
            return places
        former, self._step = self._step, np.union1d(self._step, steps)
        to = np.searchsorted(self._step, former)
        self._count = _spread(self._count, to, len(self._step))
        if self._batch is not None:
            total, unknown = (_spread(each, to, len(self._step)) for each in self._batch)
            self._batch = total, unknown
        for column in self._columns.values():
            if column is not None:
                column.spread(to, len(self._step))
        return np.searchsorted(self._step, steps)


class _Groups:
    """The records of a part by their steps.

    Args:
        step: Their steps, at least one.
    """

    def __init__(self, step: _Array) -> None:
        # The steps in their order, each once.
        self.step = step
        self._order: _Array | None = None
        self._starts: _Array | None = None
        if bool((step[1:] > step[:-1]).all()):
            return
        if bool((step[1:] < step[:-1]).any()):
            self._order = np.argsort(step, kind="stable")
            step = step[self._order]
        self._starts = np.flatnonzero(np.append(True, step[1:] != step[:-1]))
        self._lengths = np.diff(np.append(self._starts, len(step)))
        self.step = step[self._starts]

    def sum(self, values: _Array) -> _Array:
        """Return the sum of the values of each step."""
        return values if self._starts is None else np.add.reduceat(self._in_order(values), self._starts)

    def any(self, flags: _Array) -> _Array:
        """Return whether any flag of each step is set."""
        return flags if self._starts is None else np.logical_or.reduceat(self._in_order(flags), self._starts)

    def first(self, values: _Array, skips_nan: bool) -> tuple[_Array, _Array]:
        """Return a value of each step, one that is not nan if `skips_nan`, and whether others of the step differ."""
        if self._starts is None:
            return values, np.zeros(len(values), dtype=bool)
        values = self._in_order(values)
        first = np.fmin.reduceat(values, self._starts) if skips_nan else values[self._starts]
        differ = values != np.repeat(first, self._lengths)
        if skips_nan:
            differ &= ~np.isnan(values)
        return first, np.logical_or.reduceat(differ, self._starts)

    def _in_order(self, values: _Array) -> _Array:
        return values if self._order is None else values[self._order]


class _Column:
    """The sums of one column at each step: by the counts of its records, and by the sizes of their batches.

    Args:
        steps: How many steps there are.
        skips_nan: Whether a nan counts in no mean.
    """

    def __init__(self, steps: int, skips_nan: bool) -> None:
        self._skips_nan = skips_nan
        # A value of each step, and whether any other of the step differs from it.
        self._first, self._differs = np.full(steps, np.nan), np.zeros(steps, dtype=bool)
        self._by_count = np.zeros(steps)
        # None as long as no batch is known.
        self._by_batch: _Array | None = None
        # The counts and the batches of what is skipped.
        self._skipped: _Array | None = None
        self._skipped_batch: _Array | None = None

    def miss(self, where: _Array) -> None:
        """Note at which steps there are records without a value."""
        self._differs[where] = True
        self._by_count[where] = np.nan
        if where.any():
            self._by_batch = self._by_count.copy()

    def add(
        self,
        groups: _Groups,
        places: _Places,
        is_new: _Array,
        values: _Array,
        counts: _Array | None,
        sizes: _Array | None,
    ) -> None:
        """Take the values of a part.

        Args:
            groups: Its records by their steps.
            places: Where these steps are.
            is_new: Which of these steps had no record before.
            values: The values of the records.
            counts: How many records each stands for, None if one.
            sizes: The sizes of the batches, None if none is known.
        """
        first, differs = groups.first(values, self._skips_nan)
        before = self._first[places]
        if self._skips_nan:
            is_new = np.isnan(before)
            differs = differs | ~(is_new | np.isnan(first) | (before == first))
        else:
            differs = differs | ~(is_new | (before == first))
        self._first[places] = np.where(is_new, first, before)
        self._differs[places] |= differs
        if self._skips_nan and (skipped := np.isnan(values)).any():
            values = np.where(skipped, 0.0, values)
            if self._skipped is None:
                self._skipped = np.zeros(len(self._first))
            self._skipped[places] += groups.sum(skipped * (1 if counts is None else counts))
            if sizes is not None:
                if self._skipped_batch is None:
                    self._skipped_batch = np.zeros(len(self._first))
                self._skipped_batch[places] += groups.sum(skipped * sizes)
        with np.errstate(invalid="ignore", over="ignore"):
            self._by_count[places] += groups.sum(values if counts is None else values * counts)
            if sizes is not None:
                if self._by_batch is None:
                    self._by_batch = np.zeros(len(self._first))
                self._by_batch[places] += groups.sum(values * sizes)

    def spread(self, to: _Array, steps: int) -> None:
        """Make room for more steps, those that there were being at some places among them."""
        first = np.full(steps, np.nan)
        first[to] = self._first
        self._first, self._differs = first, _spread(self._differs, to, steps)
        self._by_count = _spread(self._by_count, to, steps)
        self._by_batch, self._skipped, self._skipped_batch = (
            None if each is None else _spread(each, to, steps)
            for each in (self._by_batch, self._skipped, self._skipped_batch)
        )

    def means(self, total: _Array, by_batch: _Array | None) -> _Array:
        """Return the mean at each step.

        Args:
            total: The sum of the counts or of the batches, by which each is weighed.
            by_batch: Where it is that of the batches; None for nowhere.
        """
        sums, skipped = self._by_count, self._skipped
        if by_batch is not None:
            sums = np.where(by_batch, 0.0 if self._by_batch is None else self._by_batch, sums)
            if skipped is not None:
                skipped = np.where(by_batch, 0.0 if self._skipped_batch is None else self._skipped_batch, skipped)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            means: _Array = np.where(self._differs, sums / (total if skipped is None else total - skipped), self._first)
        return means


def _is_one_number(values: _Array) -> bool:
    """Whether all entries are one number in memory, which `Records` puts where a column is not given."""
    return bool(values.strides == (0,))


def _spread(values: _Array, to: _Array, length: int) -> _Array:
    spread = np.zeros(length, dtype=values.dtype)
    spread[to] = values
    return spread
