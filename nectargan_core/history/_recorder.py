"""The recorder: the clock of a run, the scope it records in, the series of its losses, and their flush to the log."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

from torch import Tensor

from nectargan_core._messages import did_you_mean, listed, warn
from nectargan_core.errors import LossLogError, NectarganError, NonFiniteLossError, UnknownLossError
from nectargan_core.history._atomic import Exclusive, at_once
from nectargan_core.history._series import Series, sync
from nectargan_core.log import RECORD, LogFile, LogIndex, LossLog, Records, encode_chunk, encode_rewind, joined

OnNonFinite: TypeAlias = Literal["warn", "raise", "ignore"]

Steps: TypeAlias = list[partial[Any]]
"""What `at_once` calls."""

# Where writing fails, this many buffers of records are kept, so that a full disk does not fill the memory.
_BUFFERS_KEPT = 20

# So many scalars of one loss are kept apart on a device before they are stacked into one tensor.
_BLOCK = 64


@dataclass
class _Batch:
    """What a flush writes: it stays the same until it is written, also if an exception comes in between.

    Args:
        number: How many appends the log had before it.
        lines: The lines.
        chunks: The records of the lines.
        ends: For each series, the position after the last of its records.
        rewinds: How many of the lines were `Recorder._rewinds`.
    """

    number: int
    lines: str
    chunks: list[Records]
    ends: dict[Series, int]
    rewinds: int
    observed: bool = False


class Recorder:
    """The clock, the scope and the series of one manager, and the log that they go to.

    Has no reference to the manager, so that the manager can be collected, which then flushes and closes this. A flush
    may be asked for by a signal handler or another thread while one is under way, and may be interrupted anywhere: it
    is then finished by the next.

    Args:
        log: The file to append to; None to keep everything in memory.
        keep: Whether to keep every record, or only the last of each loss.
        buffer_size: Records of one loss that are kept before all are flushed.
        flush_every: Seconds after which the next loss call flushes.
        nonfinite: What happens when a weighted loss is nan or infinite.
        notify: Called with the name of an event and its arguments: after a flush, for a nan or infinite loss, and at
            the end.
    """

    __slots__ = (
        "__weakref__",
        "_batch",
        "_block",
        "_buffer_size",
        "_counts",
        "_ended",
        "_flush_every",
        "_flushing",
        "_indexes",
        "_lost",
        "_nonfinite",
        "_notified_of_nonfinite",
        "_notify",
        "_on_device",
        "_pending_error",
        "_prefix",
        "_reading",
        "_resumed",
        "_rewinds",
        "_scalars",
        "_sync_asked",
        "_syncing",
        "_warned_of_nonfinite",
        "_warned_of_step",
        "_warned_of_write",
        "closed",
        "deadline",
        "epoch",
        "full",
        "keep",
        "log",
        "series",
        "step",
        "ticked",
        "watching",
    )

    def __init__(
        self,
        log: LogFile | None,
        keep: bool,
        buffer_size: int,
        flush_every: float,
        nonfinite: OnNonFinite,
        notify: Callable[..., None],
    ) -> None:
        self.log = log
        self.keep = keep
        # Every series of the run, by its full name, such as `val/G_L1`.
        self.series: dict[str, Series] = {}
        # The scope: the prefix of the names under which records are kept; None in a pause, which keeps none.
        self._prefix: str | None = ""
        # The scalars recorded in this scope, by the names that the user gave.
        self._scalars: dict[str, Series] = {}
        # -1 before the first tick, which makes it 0; a resumed run goes on after the last step of the log.
        self.step = -1
        self.epoch: float = 0
        self.ticked = False
        self.closed = False
        # How many records each series had before this run, where a run is resumed.
        self._counts: Mapping[str, int] = {}
        # Lines that supersede records, to be written before the next chunks.
        self._rewinds: list[str] = []
        # What a flush that is under way, or was interrupted, writes.
        self._batch: _Batch | None = None
        # Weak, so that the recorder is freed with the manager.
        mine = weakref.ref(self)
        self._flushing = Exclusive(lambda: recorder._flush() if (recorder := mine()) is not None else 0)
        self._reading = Exclusive(lambda: recorder._read() if (recorder := mine()) is not None else 0)
        # What was read of the log, with the number of its file: one entry, or none while somebody reads.
        self._indexes: list[tuple[int, LogIndex]] = []
        self._notify = notify
        self._nonfinite = nonfinite
        self._warned_of_nonfinite: set[str] = set()
        # The losses whose first nan or infinity since the last flush observers were notified of.
        self._notified_of_nonfinite: set[str] = set()
        # Whether values are being read from a device, whether there are any, and the error about one, which the next
        # tick, compute or flush raises.
        self._syncing = self._sync_asked = self._on_device = False
        self._pending_error: NonFiniteLossError | None = None
        self._buffer_size = buffer_size
        self._block = min(_BLOCK, buffer_size)
        self._flush_every = flush_every
        # A flush is due when the rows of a series have `full` bytes, or when the clock of the machine is at `deadline`.
        self.full: float = math.inf if log is None else buffer_size * RECORD.size
        self.deadline = math.inf if log is None else time.monotonic() + flush_every
        # Whether a call has to check `full` and `deadline` at all.
        self.watching = log is not None
        self._warned_of_write = self._warned_of_step = False
        self._resumed = self._ended = False
        self._lost = 0
        if log is not None:
            log.on_taken_over = weakref.WeakMethod(self.close)

    # Scope

    @property
    def in_scope(self) -> bool:
        """Whether a split or a pause is entered."""
        return self._prefix != ""

    @property
    def scalars(self) -> Mapping[str, Series]:
        """The series of what was recorded in this scope that is no loss, by name."""
        return self._scalars

    def scope(self, prefix: str | None) -> tuple[Callable[[str], Series], Steps, Steps]:
        """Prepare to record under a prefix, or nothing at all.

        Args:
            prefix: Such as `val/`; None to record nothing.

        Returns:
            What gives the series of a loss in this scope, by the name of the loss; and the steps that enter and leave
            the scope, for `at_once`.
        """
        # Inside a pause a split records nothing either.
        prefix = None if self._prefix is None else prefix
        enter = [partial(setattr, self, "_prefix", prefix), partial(setattr, self, "_scalars", {})]
        leave = [partial(setattr, self, name, getattr(self, name)) for name in ("_prefix", "_scalars")]
        return _unrecorded if prefix is None else lambda name: self._open_window(f"{prefix}{name}"), enter, leave

    def open(self, name: str, keep: bool | None = None) -> Series:
        """Return the series of a full name: the one there is, or a new one."""
        if name not in self.series:
            keep = self.keep if keep is None else keep
            self.series[name] = Series(name, keep, self._on_nonfinite, self._watch_device)
            self.series[name].count = self._counts.get(name, 0)
        return self.series[name]

    def _open_window(self, name: str) -> Series:
        """Return a series that keeps its records for a mean from now on, even where others keep only their last."""
        series = self.open(name, keep=True)
        if not self.keep:
            self.sync()  # Values on a device belong to the records that are dropped here.
            series.drop(series.end())
        series.begin_window()
        return series

    # Recording

    def tick(self, epoch: float | None, step: int | None) -> None:
        """Set the clock: the step is the one given or one more than before, the epoch likewise or as before.

        The first step that is not given is the number of calls that any loss has had outside of splits. The first that
        is given in a resumed run supersedes what the log has at that step and later ones.
        """
        if self._on_device and self._nonfinite == "raise":
            self.sync()
            self.raise_pending_error()
        if step is None:
            step = self.step + 1
            if not self.ticked:
                step = max([step, *(series.count for series in self._losses())])
        elif self._resumed and not self.ticked and step <= self.step:
            self._rewinds.append(encode_rewind(step, {}))
        elif self.keep and step < self.step and not self._warned_of_step:
            self._warned_of_step = True
            warn(
                f"the step goes back from {self.step} to {step}, so that these steps are recorded twice; to go on from "
                "a checkpoint call load_state_dict, and otherwise let steps count on from epoch to epoch"
            )
        self.step = step
        if epoch is not None and epoch != self.epoch:
            if math.floor(epoch) != math.floor(self.epoch):
                for series in list(self.series.values()):
                    series.begin_window()
            self.epoch = epoch
        self.ticked = True

    def record(self, name: str, value: float | Tensor) -> None:
        """Record a scalar that is no loss, in the present scope; it may be nan or infinite."""
        if name not in self._scalars:
            if self._prefix is None:
                self._scalars[name] = _unrecorded(name)
            else:
                full = self._prefix + name
                self._scalars[name] = self._open_window(full) if self._prefix else self.open(full)
                self._scalars[name].watch_nonfinite(None)
        series = self._scalars[name]
        if self.is_due(series):
            self.flush_or_raise()
        step = self.step if self.ticked else self.step_in_scope if self._prefix else series.count
        series.add_scalar(step, self.epoch, value)

    @property
    def step_in_scope(self) -> int:
        """The step of what is recorded in a split: where the clock stands, 0 before its first tick."""
        return max(self.step, 0)

    def _losses(self) -> list[Series]:
        """Return the series of the losses outside of splits."""
        series = list(self.series.items())  # one call of C, since another thread may add one
        return [each for name, each in series if "/" not in name and name not in self._scalars]

    def is_due(self, series: Series) -> bool:
        """Whether `flush_or_raise` is due before a record is added; `BoundLoss.compute` has a copy of this."""
        return self.watching and (len(series.rows) >= self.full or time.monotonic() >= self.deadline)

    def _watch_device(self, series: Series) -> None:
        """Let a call now and then read what is on a device, also where no log does: it may be nan or infinite."""
        self._on_device = True
        if self._nonfinite != "ignore" and not self.watching:
            self.watching, self.deadline = True, time.monotonic() + self._flush_every
        if series.unpacked >= self._block:
            self._reading()
            if series.waiting * RECORD.size + len(series.rows) >= self.full:
                self.deadline = -math.inf

    def _on_nonfinite(self, series: Series, step: int, epoch: float, value: float) -> None:
        name = series.name
        what = f"loss {name!r} became {value} at step {step}, epoch {epoch:g}"
        error = None
        if self._nonfinite == "raise":
            message = f"{what}, and this manager was made with nonfinite='raise'"
            error = NonFiniteLossError(message, loss_name=name, step=step, epoch=epoch)
        if name not in self._notified_of_nonfinite:
            self._notified_of_nonfinite.add(name)
            if self._nonfinite == "warn" and name not in self._warned_of_nonfinite:
                self._warned_of_nonfinite.add(name)
                warn(f"{what}; this loss is not warned of again")
            self._notify("nectargan_nonfinite_loss", loss_name=name, step=step, epoch=epoch, value=value)
        if error is not None and not self._syncing:
            raise error  # out of the call that computed it
        if error is not None and self._pending_error is None:
            self._pending_error = error
            self.watching, self.deadline = True, -math.inf

    # Reading

    def sync(self) -> None:
        """Read what is still on a device."""
        if self._on_device:
            self._sync_asked = True
            self._reading(wait=True)

    def _read(self) -> int:
        """Read what is on devices if `sync` has asked for it; else only pack it together."""
        asked, self._sync_asked = self._sync_asked, False
        series = list(self.series.values())
        if not asked:
            for each in series:
                if each.unpacked >= self._block:
                    each.pack()
            return 0
        # Errors about values wait until all are read.
        self._syncing = True
        try:
            sync(series)
        finally:
            self._syncing = False
        return 0

    def records(self, name: str) -> Records:
        """Return all records of a full name: those of the log and those that are still in memory.

        Raises:
            UnknownLossError: If nothing of this name was ever recorded.
        """
        self.sync()
        series = self.series.get(name)
        parts = []
        if self.log is None:
            parts = [] if series is None else [series.records()]
        else:
            while True:
                written, batch = self.log.written, self._batch
                logged = self._logged(self.log, name)
                kept = []
                if series is not None:
                    # A flush that is under way has written some, and not removed them yet.
                    is_written = batch is not None and batch.number < written
                    kept = [series.records(batch.ends.get(series, 0) if batch is not None and is_written else 0)]
                if (self.log.written, self._batch) == (written, batch):
                    break
            parts = [*logged, *kept]
        if not parts:
            known = tuple(self.series)
            raise UnknownLossError(
                f"nothing is recorded under {name!r}; there are {listed(known)}.{did_you_mean(name, known)}",
                name=name,
                known=known,
            )
        return joined(name, parts)

    def _logged(self, log: LogFile, name: str) -> list[Records]:
        """Return what the log has of a loss; reads and parses what it has not read before."""
        try:
            opened, index = self._indexes.pop()  # so that a second reader comes upon none and makes its own
        except IndexError:
            opened, index = log.opened, LogIndex(log.path)
        if opened != log.opened:
            opened, index = log.opened, LogIndex(log.path)
        try:
            index.extend(log.read)
            parts = index.parts(name, log.read)
        except OSError as error:
            raise LossLogError(f"cannot read {log.path}: {error.strerror or error}") from error
        self._indexes[:] = [(opened, index)]
        return parts

    # Flushing

    def flush_or_raise(self) -> None:
        """Do what is due before a loss is computed: flush, or raise why it cannot be computed.

        Raises:
            NectarganError: If the manager is closed.
            NonFiniteLossError: If one is due.
        """
        self.raise_pending_error()
        if self.closed:
            self.flush()  # what was under way when it was closed
            raise NectarganError(
                "this manager is closed, so that nothing it computed would be recorded; make another one, or compute "
                "inside its with block"
            )
        self.flush()

    def raise_pending_error(self) -> None:
        """Raise the `NonFiniteLossError` that is due, once."""
        if self._pending_error is not None:
            error, self._pending_error = self._pending_error, None
            # A flush may have been due at this call; let the next call do it.
            self.deadline = -math.inf
            raise error

    def flush(self) -> int:
        """Write what is new to the log; where a flush is under way already, that one does it.

        Returns:
            How many records were written here; 0 where there is no log, nothing is new, or writing failed: then a
            warning says so, once, everything stays in memory, and the next flush tries again.
        """
        return self._flushing()

    def _flush(self) -> int:
        self.sync()
        self._notified_of_nonfinite.clear()
        if self._pending_error is None and not self.closed:
            self.deadline = time.monotonic() + self._flush_every
        written = 0
        if self.log is None:
            self._notify_of([series.new_records() for series in list(self.series.values())] if self.keep else [])
            self._expect_next_flush()
        elif self.log.is_mine:
            if self._batch is not None:
                written += self._write(self.log)
            if self._batch is None and self._collect(self.log):
                written += self._write(self.log)
        if self.closed:
            self._end()
        return written

    def _collect(self, log: LogFile) -> bool:
        """Make a batch of what is new; returns whether there is something."""
        rewinds, now = self._rewinds[:], time.time()
        chunks, ends = [], {}
        for series in list(self.series.values()):
            chunk, end = series.records_and_end()
            if len(chunk):
                chunks.append(chunk)
                ends[series] = end
        if not chunks and not rewinds:
            return False
        lines = "".join([*rewinds, *(encode_chunk(chunk, now) for chunk in chunks)])
        self._batch = _Batch(log.written, lines, chunks, ends, len(rewinds))
        return True

    def _write(self, log: LogFile) -> int:
        """Write the batch, and remove from memory what is in it; each step may have been done before an interrupt."""
        batch = self._batch
        if batch is None:
            return 0
        try:
            log.append(batch.lines, batch.number)
        except OSError as error:
            if not log.is_torn:
                self._batch = None  # The next one has what comes until then, too.
            self._keep_unwritten(str(log.path), error)
            return 0
        for series, end in batch.ends.items():
            series.drop(end)
        self.full = self._buffer_size * RECORD.size
        self._warned_of_write = False
        if not batch.observed:
            batch.observed = True
            self._notify_of(batch.chunks)
        at_once(partial(self._rewinds.__delitem__, slice(batch.rewinds)), partial(setattr, self, "_batch", None))
        return sum(map(len, batch.chunks))

    def notify_without_log(self) -> None:
        """Let calls flush now and then where there is no log, since somebody observes it."""
        if self.keep and self.log is None and self.full == math.inf:
            self.watching, self.deadline = True, time.monotonic() + self._flush_every
            self._expect_next_flush()

    def _expect_next_flush(self) -> None:
        """Set when a flush is due that leaves the records in memory: when another buffer's worth has gathered."""
        longest = max((len(series) for series in list(self.series.values())), default=0)
        self.full = (longest + self._buffer_size) * RECORD.size

    def _notify_of(self, chunks: list[Records]) -> None:
        ordered = tuple(sorted((chunk for chunk in chunks if len(chunk)), key=lambda chunk: int(chunk.step[0])))
        if ordered:
            self._notify("nectargan_history_flushed", chunks=ordered)

    def close(self) -> None:
        """Flush and give up the log; called at the latest when the manager is collected or Python exits.

        A record that was under way when a signal handler closed the manager is written by the next call of this, or of
        a loss.
        """
        self.closed = True
        self._flushing(wait=True)

    def _end(self) -> None:
        """Give up the log, at the end of the last flush."""
        # The next loss call then gets to `flush_or_raise`, which says that the manager is closed.
        self.watching, self.deadline = True, -math.inf
        lost = sum(len(series) for series in list(self.series.values()))
        if self.log is not None and self.log.is_mine:
            if lost and not self._ended:
                warn(
                    f"LOST: the last {lost} records of the loss log {self.log.path}, which cannot be written at the end"
                )
            self.log.close()
        if not self._ended:
            self._ended = True
            self._notify("nectargan_manager_closed")

    def _keep_unwritten(self, path: str, error: OSError) -> None:
        if not self._warned_of_write:
            self._warned_of_write = True
            warn(
                f"cannot write the loss log {path}: {error.strerror or error}; the records stay in memory, and every "
                "flush tries again"
            )
        every = list(self.series.values())
        longest = max(map(len, every), default=0)
        limit = _BUFFERS_KEPT * self._buffer_size
        if longest > limit:
            dropped = 0
            for series in every:
                excess = max(0, len(series) - limit)
                series.drop(series.begin + excess)
                dropped += excess
            self._lost += dropped
            longest = limit
            # The total makes each of these warnings a new one, which Python does not suppress as a repetition.
            warn(
                f"LOST: the {dropped} oldest records of the loss log {path} ({self._lost} in all), which still cannot "
                f"be written: {error.strerror or error}"
            )
        # Tried again when another buffer's worth has gathered.
        self.full = (longest + self._buffer_size) * RECORD.size

    # Resuming

    def resume(self, log: LossLog) -> None:
        """Count on after the last step of a log."""
        self.step = log.last_step
        self._resumed = True
        self._counts = {name: int(log.series(name).step[-1]) + 1 for name in log.names if len(log.series(name))}

    def state(self) -> dict[str, Any]:
        """Return where the clock and the series stand, as plain data."""
        counts = {name: series.count for name, series in list(self.series.items())}
        return {"step": self.step, "epoch": self.epoch, "ticked": self.ticked, "counts": {**self._counts, **counts}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; what the log has beyond that is superseded."""
        self.flush()
        ahead = self.step > state["step"] if state["ticked"] else self._is_ahead(state["counts"])
        self.step, self.epoch, self.ticked = state["step"], state["epoch"], state["ticked"]
        self._counts = dict(state["counts"])
        for name, series in list(self.series.items()):
            series.count = self._counts.get(name, 0)
            # Forget what is in memory because it could not be written, or because there is no log.
            series.rewind(self.step + 1 if self.ticked else series.count)
            series.begin_window()
        if ahead and self.log is not None:
            self._rewinds.append(encode_rewind(self.step + 1 if self.ticked else None, self._counts))
            self.flush()

    def _is_ahead(self, counts: Mapping[str, int]) -> bool:
        mine = self.state()["counts"]
        return any(count > counts.get(name, 0) for name, count in mine.items())


def _unrecorded(name: str) -> Series:
    """Return a series that the recorder does not know, so that it goes nowhere."""
    return Series(name, False, None)
