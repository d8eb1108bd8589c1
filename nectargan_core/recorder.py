"""What a manager remembers: its clock, the series of every loss, and when they go to the log."""

from __future__ import annotations

import math
import time
import weakref
from pathlib import Path
from typing import Any, Literal

from nectargan_core.errors import NectarganError, NonFiniteLossError, warn
from nectargan_core.history import Series, settle
from nectargan_core.log_file import LogFile
from nectargan_core.log_format import encode_chunk
from nectargan_core.observers import Observers

_FLUSH_EVERY = 30.0
# After so many failed flushes' worth of records the oldest go, so that a full disk does not become full memory.
_BUFFERS_KEPT = 20


class Recorder:
    """The clock and the series of one manager, and the log that they go to.

    Holds nothing of the manager, so that it can outlive it by the one flush at the end.

    Args:
        log: The file to append to; None to keep everything in memory.
        keep: Whether to keep every record, or only the last of each loss.
        buffer_size: Records of one loss that are kept before all are flushed.
        nonfinite: What happens when a weighted loss is nan or infinite.
        observers: Who is told of flushes and of such losses; not kept alive.
    """

    __slots__ = (
        "__weakref__",
        "_buffer_size",
        "_fault",
        "_nonfinite",
        "_observers",
        "_told",
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
        nonfinite: Literal["warn", "raise", "ignore"],
        observers: Observers,
    ) -> None:
        self.log = log
        self.keep = keep
        self.series: dict[str, Series] = {}
        self.step = 0
        self.epoch: float = 0
        self.ticked = False
        self.closed = False
        self._observers = weakref.ref(observers)
        self._nonfinite = nonfinite
        self._warned_of_nonfinite: set[str] = set()
        # The losses whose first bad value since the last flush has been told.
        self._told: set[str] = set()
        self._fault: NonFiniteLossError | None = None
        self._buffer_size = buffer_size
        self.room: float = math.inf if log is None else buffer_size
        self.deadline = math.inf if log is None else time.monotonic() + _FLUSH_EVERY
        # Whether a call has to look at the room and the deadline at all.
        self.watching = log is not None
        self._warned_of_write = False

    def open(self, name: str) -> Series:
        """Return the series of a loss: the one there is, or a new one."""
        if name not in self.series:
            self.series[name] = Series(name, self.keep, self._note_nonfinite)
        return self.series[name]

    def tick(self, epoch: float | None, step: int | None) -> None:
        """Set the clock: the step is the one given or one more than before, the epoch likewise or as before."""
        if step is not None:
            self.step = step
        elif self.ticked:
            self.step += 1
        if epoch is not None:
            self.epoch = epoch
        self.ticked = True

    def settle(self) -> None:
        """Read what is still on a device."""
        settle(self.series.values())

    def flush(self) -> int:
        """Write what is new to the log.

        Returns:
            How many records were written. None where there is no log, nothing is new, or writing failed: then
            a warning says so, once, everything stays in memory, and the next flush tries again.
        """
        self.settle()
        if self.log is None or not self.log.is_mine:
            self._told.clear()
            return 0
        self.deadline = time.monotonic() + _FLUSH_EVERY
        chunks = [series.records() for series in self.series.values() if len(series)]
        if not chunks:
            return 0
        now = time.time()
        try:
            self.log.append("".join(encode_chunk(chunk, now) for chunk in chunks))
        except OSError as error:
            self._keep_unwritten(self.log.path, error)
            return 0
        for chunk in chunks:
            self.series[chunk.name].drop(len(chunk))
        self.room = self._buffer_size
        self._warned_of_write = False
        self._told.clear()
        for chunk in chunks:
            self._tell("nectargan_history_flushed", chunk=chunk)
        return sum(map(len, chunks))

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
            self.watching, self.deadline = self.log is not None or self.closed, -math.inf
            raise fault

    def close(self) -> None:
        """Flush and give up the log; called at the latest when the manager is collected or Python exits."""
        if self.closed:
            return
        self.flush()
        self.closed = True
        # The next loss call attends, and is told.
        self.watching, self.deadline = True, -math.inf
        if self.log is not None:
            self.log.close()

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

    def _keep_unwritten(self, path: Path, error: OSError) -> None:
        if not self._warned_of_write:
            self._warned_of_write = True
            warn(
                f"cannot write the loss log {path}: {error.strerror or error}; the records stay in memory, "
                "and every flush tries again"
            )
        longest = max(len(series) for series in self.series.values())
        self.room = longest + self._buffer_size
        limit = _BUFFERS_KEPT * self._buffer_size
        if longest > limit:
            dropped = 0
            for series in self.series.values():
                excess = max(0, len(series) - limit)
                series.drop(excess)
                dropped += excess
            self.room = longest
            warn(
                f"LOST: the {dropped} oldest records of the loss log {path}, which still cannot be written: "
                f"{error.strerror or error}"
            )
