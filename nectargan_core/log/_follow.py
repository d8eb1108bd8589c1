"""`Follower`: the newest values of a log that grows, which is read on from where it was read before."""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nectargan_core.errors import LossLogError
from nectargan_core.log._file import log_name, log_rank, read_at
from nectargan_core.log._index import LogIndex
from nectargan_core.log._kinds import Entry, Traits, entries_of
from nectargan_core.log._nectargan import NectarganLog, find_nectargan_log, no_log
from nectargan_core.log._records import Records

# A trend is shown in so many values; twice as many are kept, so that each is a mean of as many records.
_TREND = 32
# The speed is that of so many of the last times that the log grew.
_UPDATES = 20


class Newest:
    """The newest values of a series, of which the records are not kept.

    Args:
        name: Its name.

    Example:
        >>> ones = np.ones(2)
        >>> newest = Newest("G_L1")
        >>> newest.add(Records("G_L1", np.array([6, 7]), ones, np.array([0.5, 0.25]), ones, ones))
        >>> newest.records, newest.step, newest.last, newest.epoch_mean
        (2, 7, 0.25, 0.375)
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.records = 0
        self.step = -1
        self.first_step = 0
        self.epoch = self.last = self.weight = float("nan")
        self.traits = Traits(None, is_weighted=False)
        # The sum over the present epoch, and how many records it is of.
        self._sum, self._count = 0.0, 0
        # The same weighed by the sizes of the batches, of which the count is 0 where one is not known.
        self._sum_by_batch, self._batch = 0.0, 0
        # Sums of so many records each, with how many are in the last.
        self._sums: list[float] = []
        self._each, self._in_last = 1, 0

    def add(self, records: Records) -> None:
        """Take records that follow those before."""
        if not len(records):
            return
        if not self.records:
            self.first_step = int(records.step[0])
        starts = np.flatnonzero(np.floor(records.epoch[1:]) != np.floor(records.epoch[:-1])) + 1
        start = int(starts[-1]) if len(starts) else 0
        if start or np.floor(records.epoch[0]) != np.floor(self.epoch):
            self._sum, self._count = 0.0, 0
        loss, batch = records.loss[start:], records.batch[start:]
        if bool((batch <= 0).any()) or self._batch == 0 < self._count:
            self._batch = 0
        else:
            if not self._count:
                self._sum_by_batch, self._batch = 0.0, 0
            with np.errstate(invalid="ignore", over="ignore"):
                self._sum_by_batch += float((loss * batch).sum())
            self._batch += int(batch.sum())
        with np.errstate(invalid="ignore", over="ignore"):
            self._sum += float(loss.sum())
        self._count += len(loss)
        self.records += len(records)
        self.step, self.epoch = int(records.step[-1]), float(records.epoch[-1])
        self.last, self.weight = float(records.loss[-1]), float(records.weight[-1])
        weighted = self.traits.is_weighted or bool((records.weight != 1).any())
        self.traits = Traits(records.component_of, weighted)
        self._add_to_trend(records.loss)

    @property
    def epoch_mean(self) -> float:
        """The mean over the present epoch, as far as it has come.

        It is weighed by the sizes of the batches where all of them are known.
        """
        if self._batch:
            return self._sum_by_batch / self._batch
        return self._sum / self._count if self._count else float("nan")

    @property
    def trend(self) -> list[float]:
        """At most 64 means of as many records each, over the whole run; nan where a record is."""
        counts = [self._each] * (len(self._sums) - 1) + [self._in_last]
        return [total / count for total, count in zip(self._sums, counts, strict=False)]

    def _add_to_trend(self, values: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        position = 0
        with np.errstate(invalid="ignore", over="ignore"):
            while position < len(values):
                if not self._sums or self._in_last == self._each:
                    if len(self._sums) == 2 * _TREND:
                        self._sums = [a + b for a, b in zip(self._sums[::2], self._sums[1::2], strict=True)]
                        self._each *= 2
                    self._sums.append(0.0)
                    self._in_last = 0
                part = values[position : position + self._each - self._in_last]
                self._sums[-1] += float(part.sum())
                self._in_last += len(part)
                position += len(part)


class Follower:
    """Reads a log that a run appends to, each time only what is new.

    What is kept of a series is a few numbers, whatever its length. A log that a resumed run goes back in, that was
    replaced, or that is NectarGAN's own, is read again from its begin. Of a run with several ranks the lowest that has
    a log is followed.

    Args:
        path: A log, or the directory that it is in or will be in.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.series: dict[str, Newest] = {}
        self.headers: list[Mapping[str, Any]] = []
        # When the log was written to last, in seconds since the epoch of Unix; None while there is none. Its newest
        # chunk says so, and the time of the file where that does not, which is another one after the log was copied.
        self.written: float | None = None
        # Whether there was a log, which is not there any more.
        self.is_gone = False
        self._index: LogIndex | None = None
        self._identity: tuple[int, int] | None = None
        self._size = 0
        self._changed: float | None = None
        # When a chunk of the log was written, or NectarGAN's was seen to have grown, and up to which step.
        self._seen: deque[tuple[float, int]] = deque(maxlen=_UPDATES)

    @property
    def step(self) -> int:
        """The last step of any series, -1 before there is one."""
        return max((each.step for each in self.series.values()), default=-1)

    @property
    def epoch(self) -> float:
        """The epoch of the series with the last step."""
        return max(((each.step, each.epoch) for each in self.series.values()), default=(-1, float("nan")))[1]

    @property
    def speed(self) -> float | None:
        """Steps a second: between the last times that the log has grown, or else from its begin on.

        None where the times in the log do not say it.
        """
        if len(self._seen) > 1:
            (start, first), (end, last) = self._seen[0], self._seen[-1]
            return (last - first) / (end - start) if end > start else None
        started = self.headers[0].get("started") if len(self.headers) == 1 else None
        newest = self._index.written[-1] if self._index is not None and self._index.written else None
        if not isinstance(started, (int, float)) or newest is None or newest <= started or self.step < 0:
            return None
        first = min(each.first_step for each in self.series.values())
        return (self.step - first + 1) / (newest - started)

    def entries(self) -> list[Entry]:
        """Return what each name stands for, in the order of the log."""
        return entries_of(self.headers, self.series, lambda name: self.series[name].traits)

    def poll(self) -> bool:
        """Read what is new, and return whether anything is.

        Raises:
            LossLogError: If there is a file that is no loss log, or it cannot be read.
        """
        theirs = find_nectargan_log(self._path)
        path = self._find() if theirs is None else theirs
        if path is None:
            return self._lose()
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            return self._lose()
        except OSError as error:
            raise LossLogError(f"cannot read {path}: {error.strerror or error}") from error
        self.is_gone = False
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise LossLogError(f"{path} is not an ordinary file")
            if (status.st_dev, status.st_ino) == self._identity and self._is_unchanged(status):
                return False
            runs = len(self.headers)
            if theirs is not None:
                self._read_theirs(path)
            else:
                self._read_ours(path, descriptor, status)
        finally:
            os.close(descriptor)
        self._identity, self._size = (status.st_dev, status.st_ino), status.st_size
        self._changed = status.st_mtime
        chunk = self._index.written[-1] if self._index is not None and self._index.written else None
        self.written = self._changed if chunk is None else chunk
        if self._seen and (self._seen[-1][1] > self.step or len(self.headers) != runs):
            self._seen.clear()  # of a run that was resumed, the time between its parts is not counted
        at = time.monotonic() if theirs is not None else chunk
        if at is not None and self.step >= 0 and (not self._seen or self.step > self._seen[-1][1]):
            self._seen.append((at, self.step))
        return True

    def _lose(self) -> bool:
        """Note that there is no log, and return whether there was one until now."""
        if self._identity is None:
            return False
        # What is there later is read from its begin.
        self._identity = self._index = None
        self._seen.clear()
        self.is_gone = True
        return True

    def _is_unchanged(self, status: os.stat_result) -> bool:
        return status.st_size == self._size and status.st_mtime == self._changed

    def _find(self) -> Path | None:
        if self._path.is_dir():
            try:
                files = list(self._path.iterdir())
            except FileNotFoundError:  # removed this moment
                return None
            ranks = {rank: file for file in files if (rank := log_rank(file.name)) is not None}
            return ranks[min(ranks)] if ranks else None
        return self._path if self._path.exists() else None

    def _read_ours(self, path: Path, descriptor: int, status: os.stat_result) -> None:
        def read(start: int, stop: int) -> bytes:
            return read_at(descriptor, start, min(stop, status.st_size) - start)

        is_same = (status.st_dev, status.st_ino) == self._identity and status.st_size >= self._size
        rewinds = len(self._index.rewinds) if self._index is not None and is_same else -1
        try:
            if self._index is not None and is_same:
                self._index.extend(read)
            if self._index is None or len(self._index.rewinds) != rewinds:
                # What a run that goes back supersedes is forgotten already.
                self._index, self.series = LogIndex(path), {}
                self._index.extend(read)
            if self._index.is_other_file:
                raise no_log(path)
            self.headers = list(self._index.headers)
            for name in self._index.names:
                newest = self.series.setdefault(name, Newest(name))
                for records in self._index.take(name, read):
                    newest.add(records)
        except OSError as error:
            if isinstance(error, LossLogError):
                raise
            raise LossLogError(f"cannot read {path}: {error.strerror or error}") from error

    def _read_theirs(self, path: Path) -> None:
        try:
            log = NectarganLog(path)
        except LossLogError:
            # NectarGAN writes it whole, and may be at it.
            if self.series:
                return
            raise
        self.headers, self.series = list(log.headers), {}
        for name in log.names:
            self.series[name] = Newest(name)
            self.series[name].add(log.records(name))


def log_in(path: Path) -> Path:
    """Return where a log is awaited: the path itself if it is named like one, else that in the directory."""
    return path if path.suffix in (".jsonl", ".json") else path / log_name()
