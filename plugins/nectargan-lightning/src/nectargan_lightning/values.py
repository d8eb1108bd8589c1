"""What a manager has recorded, as a Trainer wants it: a row for its loggers now and then, and means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np

from nectargan_core import LossManager, Records, hookimpl

Row: TypeAlias = dict[str, float]
"""Values by name."""


class Value(NamedTuple):
    """The last record of a series in a window of steps."""

    step: int
    epoch: float
    loss: float
    weight: float


class Mean(NamedTuple):
    """A mean, and how much it counts beside that of another process: its samples where their number is known."""

    value: float
    size: int  # of records where a batch has no size


class _Sums(NamedTuple):
    """Sums over records: of the weighted values, of each value times the size of its batch, and of the sizes."""

    total: float = 0.0
    records: int = 0
    by_size: float = 0.0
    size: int = 0
    has_unsized: bool = False  # whether the size of a batch is unknown

    def with_records(self, records: Records) -> _Sums:
        """Return the sums with more records, but for those of a weight of 0 that left the function uncalled."""
        counts = ~((records.weight == 0) & np.isnan(records.unweighted))
        values, sizes = records.loss[counts], records.batch[counts]
        with np.errstate(invalid="ignore"):  # of infinity and minus infinity
            return _Sums(
                self.total + float(values.sum()),
                self.records + len(values),
                self.by_size + float((values * sizes)[sizes > 0].sum()),
                self.size + int(sizes.sum()),
                self.has_unsized or not sizes.all(),
            )

    def mean(self) -> Mean:
        if self.has_unsized:
            return Mean(self.total / self.records, self.records)
        return Mean(self.by_size / self.size, self.size)


class Values:
    """Observes one manager, and gathers its records flush by flush.

    A series has one value in each window of `every` steps, its last one: that of a loss of every step is at the steps
    that `self.log` is written at, and what is recorded now and then is not left out.

    Args:
        every: How many steps a window has; 0 for no rows at all.
        write: Called with rows and their steps, in the order of the steps; what Lightning's loggers get.
    """

    def __init__(self, every: int, write: Callable[[list[tuple[int, Row]]], None]) -> None:
        self._every = every
        self._write = write
        # The last values of windows that are not over yet, by window and name.
        self._last: dict[tuple[int, str], Value] = {}
        # The weights of losses that were written last.
        self._weights: dict[str, float] = {}
        self._sums: dict[str, _Sums] = {}

    @hookimpl
    def nectargan_history_flushed(self, manager: LossManager, chunks: tuple[Records, ...]) -> None:
        """Take what is new, and write the rows of the windows that are over."""
        for records in chunks:
            self._sums[records.name] = self._sums.get(records.name, _Sums()).with_records(records)
            if self._every and not is_of_split(records.name):
                self._last.update(_last_of_windows(records, self._every))
        if self._every:
            now = manager.step // self._every
            self._write_rows(manager, [key for key in self._last if key[0] < now])

    def finish(self, manager: LossManager) -> None:
        """Write the values of the window that is not over."""
        self._write_rows(manager, [*self._last])

    def means(self, prefix: str = "") -> dict[str, Mean]:
        """Return the means since `forget` of what was recorded under a prefix, such as `val/`; or outside of splits.

        As in `LossManager.means` every sample counts the same where the sizes of all batches are known, and else every
        record; those of a weight of 0 that left the function uncalled do not count.
        """
        return {name: self._sums[name].mean() for name in self._under(prefix) if self._sums[name].records}

    def forget(self, prefix: str = "") -> None:
        """Begin the means of a prefix anew."""
        for name in self._under(prefix):
            del self._sums[name]

    def _under(self, prefix: str) -> list[str]:
        return [name for name in self._sums if (name.startswith(prefix) if prefix else not is_of_split(name))]

    def _write_rows(self, manager: LossManager, keys: Iterable[tuple[int, str]]) -> None:
        steps: dict[int, dict[str, Value]] = {}
        for key in keys:
            value = self._last.pop(key)
            steps.setdefault(value.step, {})[key[1]] = value
        if not steps:
            return
        losses = manager.get_registered_losses()
        rows: list[tuple[int, Row]] = []
        for step, values in sorted(steps.items()):
            row: Row = {name: value.loss for name, value in values.items()}
            for name, value in values.items():
                if name in losses and self._weights.get(name) != value.weight:
                    self._weights[name] = row[f"weight/{name}"] = value.weight
            # As Lightning has it in each of its own rows.
            row["epoch"] = int(max(value.epoch for value in values.values()))
            rows.append((step, row))
        self._write(rows)


def is_of_split(name: str) -> bool:
    """Whether a series is of a split: no other name has a `/`."""
    return "/" in name


def _last_of_windows(records: Records, every: int) -> Iterator[tuple[tuple[int, str], Value]]:
    """Yield the last record of each window of steps, by window and name."""
    windows = records.step // every
    for index in np.flatnonzero(np.append(windows[1:] != windows[:-1], True)):
        step, epoch = int(records.step[index]), float(records.epoch[index])
        value = Value(step, epoch, float(records.loss[index]), float(records.weight[index]))
        yield (int(windows[index]), records.name), value
