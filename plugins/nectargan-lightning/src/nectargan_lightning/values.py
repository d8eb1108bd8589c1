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
        # The sum of the weighted values of each name, and how many they are.
        self._sums: dict[str, tuple[float, int]] = {}

    @hookimpl
    def nectargan_history_flushed(self, manager: LossManager, chunks: tuple[Records, ...]) -> None:
        """Take what is new, and write the rows of the windows that are over."""
        for records in chunks:
            self._add(records)
            if self._every and not is_of_split(records.name):
                self._last.update(_last_of_windows(records, self._every))
        if self._every:
            now = manager.step // self._every
            self._write_rows(manager, [key for key in self._last if key[0] < now])

    def finish(self, manager: LossManager) -> None:
        """Write the values of the window that is not over."""
        self._write_rows(manager, [*self._last])

    def means(self, prefix: str = "") -> Row:
        """Return the means since `forget` of what was recorded under a prefix, such as `val/`; or outside of splits.

        As in `LossManager.means` every record counts the same, except those of a weight of 0 that left the function
        uncalled, which do not count.
        """
        sums = {name: self._sums[name] for name in self._under(prefix)}
        return {name: total / count for name, (total, count) in sums.items() if count}

    def forget(self, prefix: str = "") -> None:
        """Begin the means of a prefix anew."""
        for name in self._under(prefix):
            del self._sums[name]

    def _under(self, prefix: str) -> list[str]:
        return [name for name in self._sums if (name.startswith(prefix) if prefix else not is_of_split(name))]

    def _add(self, records: Records) -> None:
        counted = records.loss[~((records.weight == 0) & np.isnan(records.unweighted))]
        total, count = self._sums.get(records.name, (0.0, 0))
        with np.errstate(invalid="ignore"):  # of infinity and minus infinity
            self._sums[records.name] = (total + float(counted.sum()), count + len(counted))

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
