"""The recorder: the clock of a run, the scope it records in, the series of its losses, and their flush to the log."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from torch import Tensor

from nectargan_core._messages import did_you_mean, listed, warn
from nectargan_core.errors import LossLogError, NectarganError, NonFiniteLossError, UnknownLossError
from nectargan_core.history._atomic import Exclusive, at_once, is_called_from
from nectargan_core.history._series import BatchSize, Series, sync
from nectargan_core.log import (
    RECORD,
    LogFile,
    LogIndex,
    LossLog,
    Records,
    encode_chunk,
    encode_rewind,
    is_of_system,
    joined,
    with_times,
)

OnNonFinite: TypeAlias = Literal["warn", "raise", "ignore"]
_T = TypeVar("_T")
_Together: TypeAlias = tuple[str, tuple[str, ...]]
"""The prefix and the names of losses that were computed together."""

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
        lines: The lines; none where there is no log, and observers are all there is.
        chunks: The records of the lines.
        ends: For each series, the position after the last of its records.
        rewinds: How many of the lines were `Recorder._rewinds`.
        time: When it was made, in seconds since 1970.
        observed: Whether observers have been notified of it.
    """

    number: int
    lines: str
    chunks: list[Records]
    ends: dict[Series, int]
    rewinds: int
    time: float
    observed: bool = False


class NonFinite(NamedTuple):
    """A weighted loss that is nan or infinite.

    Args:
        what: What it is, and at which step and epoch.
        loss_name: The loss.
        step: The step.
        epoch: The epoch.
    """

    what: str
    loss_name: str
    step: int
    epoch: float


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
        "_begun",
        "_block",
        "_buffer_size",
        "_collected_error",
        "_counts",
        "_ended",
        "_flush_every",
        "_flushing",
        "_indexes",
        "_loading",
        "_lost",
        "_nonfinite",
        "_notified_of_nonfinite",
        "_notify",
        "_on_clock",
        "_on_device",
        "_pending_error",
        "_read_later",
        "_reading",
        "_resumed",
        "_rewinds",
        "_scalars",
        "_seen",
        "_spoiled",
        "_sync_asked",
        "_syncing",
        "_totals",
        "_warned_of_nonfinite",
        "_warned_of_step",
        "_warned_of_write",
        "batch_size",
        "beside",
        "closed",
        "counts_from",
        "counts_until",
        "deadline",
        "epoch",
        "full",
        "keep",
        "log",
        "prefix",
        "retain",
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
        # Without a log, whether records stay in memory when observers have been notified of them.
        self.retain = True
        # When the records that are not flushed yet began.
        self._begun = time.time()
        # What is recorded as the size of the batch; see `compute_losses`.
        self.batch_size = BatchSize()
        # Every series of the run, by its full name, such as `val/G_L1`.
        self.series: dict[str, Series] = {}
        # The scope: what stands before the names of its records, such as `val/`; None in a pause, which keeps none.
        self.prefix: str | None = ""
        # The scalars recorded in this scope, by the names that the user gave.
        self._scalars: dict[str, Series] = {}
        # What was recorded beside the losses, in whatever scope, by the name there: the loss that it is a component of,
        # None of a scalar.
        self.beside: dict[str, str | None] = {}
        # -1 before the first tick, which makes it 0; a resumed run goes on after the last step of the log.
        self.step = -1
        self.epoch: float = 0
        self.ticked = False
        # From which epoch and up to which one the next tick has nothing to do but to set it, and to count the step.
        self.counts_from: float = 0
        self.counts_until: float = 0
        # Called when the clock has changed; None as long as nobody asks for that.
        self._on_clock: Callable[[], None] | None = None
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
        # The error about one of the losses of a call, which waits until all of them are recorded.
        self._collected_error: NonFiniteLossError | None = None
        # The first loss that was nan or infinite since `take_nonfinite`.
        self._seen: NonFinite | None = None
        # A state that the next flush loads.
        self._loading: Mapping[str, Any] | None = None
        # Totals that are still on a device, by prefix and losses; and prefix and step of each loss that was read from a
        # device and is nan or infinite itself, so that its total says nothing new.
        self._totals: dict[_Together, Series] = {}
        self._spoiled: set[tuple[str, int]] = set()
        # Other values that are still on a device, and what each is passed to.
        self._read_later: list[tuple[Series, Callable[[list[float]], None]]] = []
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
        return self.prefix != ""

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
        prefix = None if self.prefix is None else prefix
        enter = [partial(setattr, self, "prefix", prefix), partial(setattr, self, "_scalars", {})]
        leave = [partial(setattr, self, name, getattr(self, name)) for name in ("prefix", "_scalars")]
        return _unrecorded if prefix is None else lambda name: self._open_window(f"{prefix}{name}"), enter, leave

    def open(self, name: str, keep: bool | None = None) -> Series:
        """Return the series of a full name: the one there is, or a new one."""
        if name not in self.series:
            keep = self.keep if keep is None else keep
            self.series[name] = Series(name, keep, self._on_nonfinite, self._watch_device, self.batch_size)
            self.series[name].count = self._counts.get(name, 0)
        series = self.series[name]
        # Another loss may have had it as a component.
        series.component_of = None
        series.watch_nonfinite(self._on_nonfinite)
        return series

    def open_component(self, loss: str, component: str) -> Series:
        """Return the series of a component of a loss in this scope."""
        name = f"{loss}.{component}"
        if self.prefix is None:
            return _unrecorded(name)
        full = self.prefix + name
        series = self._open_window(full) if self.prefix else self.begin(full)
        series.component_of = self.prefix + loss
        series.watch_nonfinite(None)  # Its loss is, too.
        self.beside[name] = loss
        return series

    def begin(self, name: str) -> Series:
        """Return the series of a loss or scalar that is new; what had this name before counts in no mean of it."""
        series = self.open(name)
        series.begin_window()
        # It is another one, which has not been warned of, nor in a split.
        self._warned_of_nonfinite = {key for key in self._warned_of_nonfinite if key.rpartition("/")[2] != name}
        return series

    def _open_window(self, name: str) -> Series:
        """Return a series that keeps its records for a mean from now on, even where others keep only their last."""
        series = self.open(name, keep=True)
        if not self.keep:
            self.sync()  # Values on a device belong to the records that are dropped here.
            series.drop(series.end())
        series.watch_nonfinite(self._on_nonfinite)  # not watched where a scalar has had the name
        series.begin_window()
        return series

    # Recording

    def of_batch(self, size: int, record: Callable[[], _T]) -> _T:
        """Call a function, and let what this thread records meanwhile have this size of the batch."""
        before = self.batch_size.value
        self.batch_size.value = size
        try:
            return record()
        finally:
            self.batch_size.value = before

    def tick(self, epoch: float | None, step: int | None) -> None:
        """Set the clock: the step is the one given or one more than before, the epoch likewise or as before.

        The first step that is not given is the number of calls that any loss has had outside of splits. The first that
        is given in a resumed run supersedes what the log has at that step and later ones.
        """
        self.counts_until = 0
        if self._on_device and self._nonfinite == "raise":
            self.sync()
            self.raise_pending_error()
        if step is None:
            step = self.step + 1
            if not self.ticked:
                step = max([step, *(series.count for series in self._losses())])
        elif self._resumed and not self.ticked and self.step >= 0:
            # Also where nothing here is superseded: other ranks may have got further.
            self._rewinds.append(encode_rewind(step, {}))
            if step <= self.step:
                self._notify("nectargan_history_rewound", step=step)
        elif self.keep and step < self.step and not self._warned_of_step:
            self._warned_of_step = True
            warn(
                f"the step goes back from {self.step} to {step}, so that these steps are recorded twice; to go on from "
                "a checkpoint call load_state_dict, and otherwise let steps count on from epoch to epoch"
            )
        if not self.ticked:
            self._begun = time.time()
        self.step = step
        if epoch is not None and epoch != self.epoch:
            if math.floor(epoch) != math.floor(self.epoch):
                for series in list(self.series.values()):
                    series.begin_window()
            self.epoch = epoch
        self.ticked = True
        if step < 2**62 and self._on_clock is None and not (self._on_device and self._nonfinite == "raise"):
            self.counts_from = math.floor(self.epoch)
            self.counts_until = self.counts_from + 1
        if self._on_clock is not None:
            self._on_clock()

    def watch_clock(self, changed: Callable[[], None]) -> None:
        """Have a function called whenever the clock has changed."""
        self._on_clock = changed
        self.counts_until = 0

    def record(self, name: str, value: float | Tensor, step: int | None = None) -> None:
        """Record a scalar that is no loss, in the present scope; it may be nan or infinite.

        Its step is that of the clock. Without a clock it is the one given, or the number of records of the scalar.
        """
        known = self._scalars.get(name)
        # Before the name is taken, since it may raise.
        if self.watching and (time.monotonic() >= self.deadline if known is None else self.is_due(known)):
            self.flush_or_raise()
        if name not in self._scalars:
            if self.prefix is None:
                self._scalars[name] = _unrecorded(name)
            else:
                full = self.prefix + name
                self._scalars[name] = self._open_window(full) if self.prefix else self.begin(full)
                self._scalars[name].watch_nonfinite(None)
                self.beside[name] = None
        series = self._scalars[name]
        if self.ticked:
            step = self.step
        elif step is None:
            step = self.step_in_scope if self.prefix else series.count
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
        if self._nonfinite == "raise":
            self.counts_until = 0
        if self._nonfinite != "ignore" and not self.watching:
            self.watching, self.deadline = True, time.monotonic() + self._flush_every
        if series.unpacked >= self._block:
            self._reading()
            if series.waiting * RECORD.size + len(series.rows) >= self.full:
                self.deadline = -math.inf

    def read_later(self, values: Iterable[Tensor], take: Callable[[list[float]], None]) -> None:
        """Have scalars on a device read together with what is read of losses next, and passed to a function."""
        series = Series("", True)
        for value in values:
            series.add_scalar(0, 0.0, value)
        self._read_later.append((series, take))
        self._watch_device(series)

    def _on_nonfinite(self, series: Series, step: int, epoch: float, value: float) -> None:
        name = series.name
        if self._syncing:
            self._spoiled.add((name[: name.rfind("/") + 1], step))
        self._report_nonfinite(name, name, f"loss {name!r}", step, epoch, value)

    def check_total(
        self, total: Tensor, losses: Mapping[str, Tensor], prefix: str | None, step: int, epoch: float
    ) -> None:
        """Report a total that is nan or infinite although its losses are not; on a device, when values are read next.

        Args:
            total: The total.
            losses: The means that it is the sum of, by the names of the losses.
            prefix: That of the scope in which they were computed.
            step: The step of their records.
            epoch: The epoch of their records.
        """
        if prefix is None or total.is_meta:
            return
        if not total.is_cpu:
            # In one variable, since a signal handler may read all totals, and begin anew, in between.
            series = Series(f"{prefix}total", self.keep, None, self._watch_device)
            series = self._totals.setdefault((prefix, tuple(losses)), series)
            series.add(step, epoch, 1.0, total.detach(), total)
        elif not math.isfinite(value := total.item()) and all(math.isfinite(loss.item()) for loss in losses.values()):
            self._report_total(prefix, tuple(losses), step, epoch, value)

    def _report_total(self, prefix: str, losses: tuple[str, ...], step: int, epoch: float, value: float) -> None:
        # No loss has this key: no name of one has a "/", and no name of a split is empty.
        self._report_nonfinite(f"{prefix}/", f"{prefix}total", f"the total of {listed(losses)}", step, epoch, value)

    def _report_totals(self, totals: Mapping[_Together, Series]) -> None:
        """Report what `check_total` left on a device, after it was read."""
        for (prefix, losses), series in totals.items():
            read = series.history()
            for step, epoch, value in zip(read.steps, read.epochs, read.losses, strict=True):
                if not math.isfinite(value) and (prefix, step) not in self._spoiled:
                    self._report_total(prefix, losses, step, epoch, value)

    def _report_nonfinite(self, key: str, name: str, what: str, step: int, epoch: float, value: float) -> None:
        """Report a loss or total that is nan or infinite; `key` stands for it where it is reported only once."""
        what = f"{what} became {value} at step {step}, epoch {epoch:g}"
        error = None
        warns = self._nonfinite == "warn" and key not in self._warned_of_nonfinite
        if key == name and (warns or self._nonfinite == "raise"):
            what += self._components_to_blame(name, step)
        if self._seen is None:
            self._seen = NonFinite(what, name, step, epoch)
        if self._nonfinite == "raise":
            message = f"{what}, and this manager was made with nonfinite='raise'"
            error = NonFiniteLossError(message, loss_name=name, step=step, epoch=epoch)
        if key not in self._notified_of_nonfinite:
            self._notified_of_nonfinite.add(key)
            if warns:
                self._warned_of_nonfinite.add(key)
                warn(f"{what}; this {'loss' if key == name else 'total'} is not warned of again")
            self._notify("nectargan_nonfinite_loss", loss_name=name, step=step, epoch=epoch, value=value)
        if error is None:
            return
        if self._syncing:
            if self._pending_error is None:
                self._pending_error = error
                self.watching, self.deadline = True, -math.inf
        elif is_called_from(Recorder.add_all, self):
            self._collected_error = self._collected_error or error
        else:
            raise error  # out of the call that computed it

    def take_nonfinite(self) -> NonFinite | None:
        """Return the first loss that was nan or infinite since this was asked last, also of those on a device.

        Whoever asks raises the error about it, which is not raised again.
        """
        self.sync()
        seen, self._seen = self._seen, None
        self._pending_error = None
        return seen

    def _components_to_blame(self, name: str, step: int) -> str:
        """Return which components of a loss are nan or infinite at a step, for a message about the loss."""
        blamed = []
        for series in list(self.series.values()):
            if series.component_of == name:
                records = series.records()
                values = records.unweighted[records.step == step]
                if not all(map(math.isfinite, values.tolist())):
                    blamed.append(series.name[len(name) + 1 :])
        return f", in its component{'s' * (len(blamed) > 1)} {listed(blamed)}" if blamed else ""

    def add_all(self, add: Callable[[], None]) -> None:
        """Let several losses be recorded, and only then raise what is due for one of them.

        Raises:
            NonFiniteLossError: If one is due.
        """
        self._collected_error = None
        add()
        if self._collected_error is not None:
            raise self._collected_error

    # Reading

    def sync(self) -> None:
        """Read what is still on a device."""
        if self._on_device:
            self._sync_asked = True
            self._reading(wait=True)

    def _read(self) -> int:
        """Read what is on devices if `sync` has asked for it; else only pack it together."""
        asked, self._sync_asked = self._sync_asked, False
        if not asked:
            for series in [*self.series.values(), *self._totals.values()]:
                if series.unpacked >= self._block:
                    series.pack()
            return 0
        totals, self._totals = self._totals, {}
        others, self._read_later = self._read_later, []
        # Errors about values wait until all are read.
        self._syncing = True
        try:
            sync([*self.series.values(), *totals.values(), *(series for series, _ in others)])
            self._report_totals(totals)
            self._spoiled.clear()
            for series, take in others:
                take(series.history().unweighted)
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
            # Until a resumed run appends, the last line of the former run may have no line end.
            index.extend(log.read, complete=log.opened == 0)
            parts = index.parts(name, log.read)
        except OSError as error:
            if not is_of_system(error):
                raise
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
        if self._is_observed():
            return  # The flush that is under way, or the next one, has what an observer records.
        if self.closed:
            self.flush()  # what was under way when it was closed
            raise NectarganError(
                "this manager is closed, so that nothing it computed would be recorded; make another one, or compute "
                "inside its with block"
            )
        self.flush()

    def raise_pending_error(self) -> None:
        """Raise the `NonFiniteLossError` that is due, once; not to an observer, who is not the one to handle it."""
        if self._pending_error is not None and not self._is_observed():
            error, self._pending_error = self._pending_error, None
            # A flush may have been due at this call; let the next call do it.
            self.deadline = -math.inf
            raise error

    def flush(self, wait: bool = False) -> int:
        """Write what is new to the log; where a flush is under way already, that one does it.

        Args:
            wait: Whether to wait for another thread that flushes.

        Returns:
            How many records were written here; 0 where there is no log, nothing is new, or writing failed: then a
            warning says so, once, everything stays in memory, and the next flush tries again.
        """
        if not self.closed and self._is_observed():
            self.deadline = -math.inf  # The next call does it, since this flush would have no end.
            return 0
        return self._flushing(wait)

    def _flush(self) -> int:
        self.sync()
        self._notified_of_nonfinite.clear()
        if self._pending_error is None and not self.closed:
            self.deadline = time.monotonic() + self._flush_every
        written = self._write_all()
        if self._loading is not None:
            self._apply(self._loading)
            written += self._write_all()
        if self.closed:
            written += self._write_all(notify=False)  # what observers have recorded since
            self._end()
        return written

    def _write_all(self, notify: bool = True) -> int:
        """Write what an interrupted flush has left, and what is new."""
        if not self.keep or (self.log is not None and not self.log.is_mine):
            return 0
        written = 0 if self._batch is None else self._write(self._batch)
        if self._batch is None and (batch := self._collect()) is not None:
            batch.observed = not notify
            written += self._write(batch)
        return written if self.log is not None else 0

    def _collect(self) -> _Batch | None:
        """Make a batch of what is new, if there is something."""
        log, rewinds, now = self.log, self._rewinds[:], time.time()
        chunks, ends = [], {}
        for series in list(self.series.values()):
            chunk, end = series.new_records()
            if len(chunk):
                chunks.append(chunk)
                ends[series] = end
        if chunks or rewinds:
            lines = "".join([*rewinds, *(encode_chunk(chunk, now) for chunk in chunks)]) if log is not None else ""
            self._batch = _Batch(0 if log is None else log.written, lines, chunks, ends, len(rewinds), now)
        elif log is None:
            self._expect_next_flush()
        return self._batch

    def _write(self, batch: _Batch | None) -> int:
        """Write a batch, and remove from memory what is in it; each step may have been done before an interrupt."""
        if batch is None:
            return 0
        if self.log is None:
            for series, end in batch.ends.items():
                series.reported = end
                if not self.retain:
                    series.drop(end)
            self._expect_next_flush()
        else:
            try:
                self.log.append(batch.lines, batch.number)
            except OSError as error:
                if not is_of_system(error):
                    raise
                if not self.log.is_torn:
                    self._batch = None  # The next one has what comes until then, too.
                self._keep_unwritten(str(self.log.path), error)
                return 0
            for series, end in batch.ends.items():
                series.drop(end)
            self.full = self._buffer_size * RECORD.size
            self._warned_of_write = False
        if not batch.observed:
            batch.observed = True
            self._notify_of(batch)
        self._begun = batch.time
        at_once(partial(self._rewinds.__delitem__, slice(batch.rewinds)), partial(setattr, self, "_batch", None))
        return sum(map(len, batch.chunks))

    def keep_until_told(self) -> None:
        """Keep records, where only the last of each loss was kept, until observers are notified of them."""
        self.sync()
        for series in list(self.series.values()):
            series.reported = series.end()
            series.keep = True
        self.keep, self.retain = True, False

    def notify_without_log(self) -> None:
        """Let calls flush now and then where there is no log, since somebody observes it."""
        if self.keep and self.log is None and self.full == math.inf:
            self.watching, self.deadline = True, time.monotonic() + self._flush_every
            self._expect_next_flush()

    def _expect_next_flush(self) -> None:
        """Set when a flush is due that leaves the records in memory: when another buffer's worth has gathered."""
        longest = max((len(series) for series in list(self.series.values())), default=0)
        self.full = (longest + self._buffer_size) * RECORD.size

    def _notify_of(self, batch: _Batch) -> None:
        timed = with_times(batch.chunks, self._begun, batch.time, by_step=self.ticked)
        if timed:
            ordered = tuple(sorted(timed, key=lambda chunk: int(chunk.step[0])))
            self._notify("nectargan_history_flushed", chunks=ordered)

    def _is_observed(self) -> bool:
        """Whether this is called by an observer that is notified of a flush."""
        return is_called_from(Recorder._notify_of, self)

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

    def resume(self, log: LossLog | None) -> None:
        """Count on after the last step of a log; None where this rank has none to resume."""
        self._resumed = True
        if log is None:
            return
        self.step = log.last_step
        self._counts = {name: int(log.series(name).step[-1]) + 1 for name in log.names if len(log.series(name))}

    def state(self) -> dict[str, Any]:
        """Return where the clock and the series stand, as plain data."""
        counts = {name: series.count for name, series in list(self.series.items())}
        return {"step": self.step, "epoch": self.epoch, "ticked": self.ticked, "counts": {**self._counts, **counts}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; what the log has beyond that is superseded."""
        self._loading = state
        self._flushing(wait=True)
        if self._loading is not None:  # called by a signal handler in the middle of a flush
            self._apply(state)

    def _apply(self, state: Mapping[str, Any]) -> None:
        """Load a state. An exception at any instruction leaves it to be loaded again."""
        ahead = self.step > state["step"] if state["ticked"] else self._is_ahead(state["counts"])
        clock = {
            "step": state["step"],
            "epoch": state["epoch"],
            "ticked": state["ticked"],
            "counts_until": 0,
            "_counts": dict(state["counts"]),
            "_seen": None,
        }
        steps = [partial(setattr, self, name, value) for name, value in clock.items()]
        limit = state["step"] + 1 if state["ticked"] else None
        # A run that is resumed says so always: ranks that are not there any more may have got further.
        if (ahead or self._resumed) and self.log is not None:
            # With the clock, from which it follows whether there is something to supersede.
            steps.append(partial(self._rewinds.append, encode_rewind(limit, clock["_counts"])))
        at_once(*steps)
        for name, series in list(self.series.items()):
            series.count = self._counts.get(name, 0)
            # Forget what is in memory because it could not be written, or because there is no log.
            series.rewind(series.count if limit is None else limit)
            series.begin_window()
        if self._on_clock is not None:
            self._on_clock()
        if limit is not None:
            self._notify("nectargan_history_rewound", step=limit)
        self._loading = None

    def _is_ahead(self, counts: Mapping[str, int]) -> bool:
        mine = self.state()["counts"]
        return any(count > counts.get(name, 0) for name, count in mine.items())


def _unrecorded(name: str) -> Series:
    """Return a series that the recorder does not know, so that it goes nowhere."""
    return Series(name, False, None)
