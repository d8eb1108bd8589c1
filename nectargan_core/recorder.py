"""What a manager remembers: its clock, the series of every loss, and when they go to the log."""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from nectargan_core.errors import NectarganError, NonFiniteLossError, warn
from nectargan_core.history import Series, settle
from nectargan_core.log import LossLog
from nectargan_core.log_file import LogFile
from nectargan_core.log_format import encode_chunk, encode_rewind
from nectargan_core.observers import Observers

OnNonFinite: TypeAlias = Literal["warn", "raise", "ignore"]

# After so many failed flushes' worth of records the oldest go, so that a full disk does not become full memory.
_BUFFERS_KEPT = 20


class Recorder:
    """The clock and the series of one manager, and the log that they go to.

    Holds nothing of the manager, so that it can outlive it by the one flush at the end.

    Args:
        log: The file to append to; None to keep everything in memory.
        keep: Whether to keep every record, or only the last of each loss.
        buffer_size: Records of one loss that are kept before all are flushed.
        flush_every: Seconds after which the next loss call flushes.
        nonfinite: What happens when a weighted loss is nan or infinite.
        observers: Who is told of flushes and of such losses; not kept alive.
    """

    __slots__ = (
        "__weakref__",
        "_buffer_size",
        "_counts",
        "_fault",
        "_flush_every",
        "_lost",
        "_nonfinite",
        "_observers",
        "_told",
        "_unwritten",
        "_warned_of_nonfinite",
        "_warned_of_write",
        "closed",
        "deadline",
        "epoch",
        "keep",
        "log",
        "room",
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
        observers: Observers,
    ) -> None:
        self.log = log
        self.keep = keep
        self.series: dict[str, Series] = {}
        # -1 before the first tick, which makes it 0; a resumed run goes on after the last step of the log.
        self.step = -1
        self.epoch: float = 0
        self.ticked = False
        self.closed = False
        # Where the series of a resumed run begin to count.
        self._counts: Mapping[str, int] = {}
        # Lines that go before the next chunks.
        self._unwritten = ""
        self._observers = weakref.ref(observers)
        self._nonfinite = nonfinite
        self._warned_of_nonfinite: set[str] = set()
        # The losses whose first bad value since the last flush has been told.
        self._told: set[str] = set()
        self._fault: NonFiniteLossError | None = None
        self._buffer_size = buffer_size
        self._flush_every = flush_every
        self.room: float = math.inf if log is None else buffer_size
        self.deadline = math.inf if log is None else time.monotonic() + flush_every
        # Whether a call has to look at the room and the deadline at all.
        self.watching = log is not None
        self._warned_of_write = False
        self._lost = 0
        if log is not None:
            log.on_taken_over = weakref.WeakMethod(self.close)

    def open(self, name: str, keep: bool | None = None) -> Series:
        """Return the series of a loss: the one there is, or a new one."""
        if name not in self.series:
            keep = self.keep if keep is None else keep
            self.series[name] = Series(name, keep, self._note_nonfinite, self._watch_device)
            self.series[name].count = self._counts.get(name, 0)
        return self.series[name]

    def open_window(self, name: str) -> Series:
        """Return a series that keeps its records for a mean from now on, even where others keep only their last."""
        series = self.open(name, keep=True)
        if not self.keep:
            settle((series,))  # or what is on a device would later be put where other records are
            series.drop(len(series))
        series.begin_window()
        return series

    def open_scalar(self, name: str, in_split: bool) -> Series:
        """Return the series of something that is no loss, and may be nan or infinite."""
        series = self.open_window(name) if in_split else self.open(name)
        series.watch_nonfinite(None)
        return series

    def is_due(self, series: Series) -> bool:
        """Whether `attend` is due before a record is added to a series."""
        return self.watching and (len(series) >= self.room or time.monotonic() >= self.deadline)

    def _watch_device(self) -> None:
        """Look at what is on a device now and then, where no log has it read: it may be nan or infinite."""
        if self._nonfinite != "ignore" and not self.watching:
            self.watching, self.deadline = True, time.monotonic() + self._flush_every

    def scratch(self, name: str) -> Series:
        """Return a series that goes nowhere."""
        return Series(name, False, None)

    def tick(self, epoch: float | None, step: int | None) -> None:
        """Set the clock: the step is the one given or one more than before, the epoch likewise or as before."""
        self.step = self.step + 1 if step is None else step
        if epoch is not None and epoch != self.epoch:
            if math.floor(epoch) != math.floor(self.epoch):
                for series in self.series.values():
                    series.begin_window()
            self.epoch = epoch
        self.ticked = True

    def settle(self) -> None:
        """Read what is still on a device."""
        settle(self.series.values())

    def attend(self) -> None:
        """Do what is due before a loss is computed: flush, or say why nothing can be computed.

        Raises:
            NectarganError: If the manager is closed.
            NonFiniteLossError: If one is due.
        """
        self.raise_fault()
        if self.closed:
            raise NectarganError(
                "this manager is closed, so that nothing it computed would be recorded; make another one, or compute "
                "inside its with block"
            )
        self.flush()

    def raise_fault(self) -> None:
        """Raise the `NonFiniteLossError` that is due, once."""
        if self._fault is not None:
            fault, self._fault = self._fault, None
            # In the past, so that a flush that may have been due meanwhile is.
            self.deadline = -math.inf
            raise fault

    def flush(self) -> int:
        """Write what is new to the log.

        Returns:
            How many records were written; 0 where there is no log, nothing is new, or writing failed: then a
            warning says so, once, everything stays in memory, and the next flush tries again.
        """
        self.settle()
        self._told.clear()
        if self._fault is None and not self.closed:
            self.deadline = time.monotonic() + self._flush_every
        if self.log is None or not self.log.is_mine or self.closed:
            return 0
        chunks = [series.records() for series in self.series.values() if len(series)]
        if not chunks and not self._unwritten:
            return 0
        now = time.time()
        try:
            self.log.append(self._unwritten + "".join(encode_chunk(chunk, now) for chunk in chunks))
        except OSError as error:
            self._keep_unwritten(str(self.log.path), error)
            return 0
        self._unwritten = ""
        for chunk in chunks:
            self.series[chunk.name].drop(len(chunk))
        self.room = self._buffer_size
        self._warned_of_write = False
        for chunk in chunks:
            self._tell("nectargan_history_flushed", chunk=chunk)
        return sum(map(len, chunks))

    def close(self) -> None:
        """Flush and give up the log; called at the latest when the manager is collected or Python exits."""
        if self.closed:
            return
        self.flush()
        lost = sum(map(len, self.series.values()))
        if lost and self.log is not None and self.log.is_mine:
            warn(f"LOST: the last {lost} records of the loss log {self.log.path}, which cannot be written at the end")
        self.closed = True
        # The next loss call attends, and is told.
        self.watching, self.deadline = True, -math.inf
        if self.log is not None:
            self.log.close()
        self._tell("nectargan_manager_closed")

    def resume(self, log: LossLog) -> None:
        """Count on after the last step of a log."""
        self.step = log.last_step
        self._counts = {name: int(log.series(name).step[-1]) + 1 for name in log.names if len(log.series(name))}

    def state(self) -> dict[str, Any]:
        """Return where the clock and the series stand, as plain data."""
        counts = {name: series.count for name, series in self.series.items()}
        return {"step": self.step, "epoch": self.epoch, "ticked": self.ticked, "counts": {**self._counts, **counts}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; what the log has beyond that is superseded."""
        self.flush()
        ahead = self.step > state["step"] if state["ticked"] else self._is_ahead(state["counts"])
        self.step, self.epoch, self.ticked = state["step"], state["epoch"], state["ticked"]
        self._counts = dict(state["counts"])
        for name, series in self.series.items():
            series.count = self._counts.get(name, 0)
            # What could not be written, or has nowhere to go.
            series.rewind(self.step + 1 if self.ticked else series.count)
            series.begin_window()
        if ahead and self.log is not None:
            self._unwritten += encode_rewind(self.step + 1 if self.ticked else None, self._counts)
            self.flush()

    def _is_ahead(self, counts: Mapping[str, int]) -> bool:
        mine = self.state()["counts"]
        return any(count > counts.get(name, 0) for name, count in mine.items())

    def _note_nonfinite(self, series: Series, step: int, epoch: float, value: float) -> None:
        name = series.name
        what = f"loss {name!r} became {value} at step {step}, epoch {epoch:g}"
        if self._nonfinite == "raise" and self._fault is None:
            message = f"{what}, and this manager was made with nonfinite='raise'"
            self._fault = NonFiniteLossError(message, loss_name=name, step=step, epoch=epoch)
            self.watching, self.deadline = True, -math.inf
        if name in self._told:
            return
        self._told.add(name)
        if self._nonfinite == "warn" and name not in self._warned_of_nonfinite:
            self._warned_of_nonfinite.add(name)
            warn(f"{what}; this loss is not warned of again")
        self._tell("nectargan_nonfinite_loss", loss_name=name, step=step, epoch=epoch, value=value)

    def _tell(self, event: str, **arguments: Any) -> None:
        observers = self._observers()
        if observers is not None:
            observers.tell(event, **arguments)

    def _keep_unwritten(self, path: str, error: OSError) -> None:
        if not self._warned_of_write:
            self._warned_of_write = True
            warn(
                f"cannot write the loss log {path}: {error.strerror or error}; the records stay in memory, and every "
                "flush tries again"
            )
        longest = max((len(series) for series in self.series.values()), default=0)
        self.room = longest + self._buffer_size
        limit = _BUFFERS_KEPT * self._buffer_size
        if longest > limit:
            dropped = 0
            for series in self.series.values():
                excess = max(0, len(series) - limit)
                series.drop(excess)
                dropped += excess
            self._lost += dropped
            self.room = limit + self._buffer_size
            # The number makes each of these warnings another one, which Python shows again.
            warn(
                f"LOST: the {dropped} oldest records of the loss log {path} ({self._lost} in all), which still cannot "
                f"be written: {error.strerror or error}"
            )
