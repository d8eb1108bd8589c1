"""The file that a manager appends its log to: locked by one process, appended to by whole lines, never overwritten."""

from __future__ import annotations

import errno
import os
import re
import stat
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nectargan_core._messages import warn
from nectargan_core.errors import LossLogError
from nectargan_core.log._format import encode_header

_STEM = "loss_log"
_TAIL = 1 << 16
# Follow no symlink, and do not wait for whoever reads a FIFO.
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_OPEN: weakref.WeakValueDictionary[Path, LogFile] = weakref.WeakValueDictionary()


def log_name(rank: int = 0) -> str:
    """Return the file name of a rank's log.

    Example:
        >>> log_name(), log_name(3)
        ('loss_log.jsonl', 'loss_log.rank3.jsonl')
    """
    return f"{_STEM}.jsonl" if rank == 0 else f"{_STEM}.rank{rank}.jsonl"


def log_rank(name: str) -> int | None:
    """Return the rank whose log has this file name, None if it is no log (or one that was moved aside)."""
    match = re.fullmatch(rf"{_STEM}(?:\.rank(\d+))?\.jsonl", name)
    return None if match is None else int(match[1] or 0)


class LogFile:
    """A log that is open for appending.

    Nothing is written before the first `append`. An existing log is then continued, or moved aside to
    `loss_log.<n>.jsonl`; it is never overwritten.

    Args:
        directory: Where the log is; made if it is not there.
        rank: Rank of this process in a distributed run.
        resume: Whether to continue a log that is there.
        header: Fields of the header line, which is written with the first append.
        fsync: Whether each append waits until the disk has it.

    Raises:
        LossLogError: If the directory cannot be made, or another process has this log open.
    """

    def __init__(self, directory: Path, rank: int, resume: bool, header: dict[str, Any], fsync: bool = False) -> None:
        self.path = directory.resolve() / log_name(rank)
        self._resume = resume
        self._fsync = fsync
        # Called when the same process opens the log again, to close the manager that has it open.
        self.on_taken_over: weakref.WeakMethod[Callable[[], None]] | None = None
        self.header = header
        self._begun = False
        self._pid = os.getpid()
        self._lock = FileLock(f"{self.path}.lock")
        former = _OPEN.get(self.path)
        if former is not None and former.is_mine:
            former._hand_over()
        _refuse_what_is_no_file(self.path)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise LossLogError(
                f"{self.path} is being written by another process; give this run an experiment_dir of its own, or "
                "stop the other"
            ) from None
        except OSError as error:
            raise LossLogError(f"cannot log to {directory}: {error.strerror or error}") from error
        _OPEN[self.path] = self

    @property
    def is_mine(self) -> bool:
        """Whether this process opened the log; a forked worker only inherited it."""
        return os.getpid() == self._pid

    @property
    def is_begun(self) -> bool:
        """Whether a file at `path` is of this log, and not one that the first append moves aside."""
        return self._begun or self._resume

    def append(self, lines: str) -> None:
        """Write whole lines with one write.

        Raises:
            OSError: If they could not all be written. The file is then as it was before.
        """
        header = "" if self._begun else encode_header(self._begin())
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _SAFELY, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not an ordinary file any more", str(self.path))
            size = os.fstat(descriptor).st_size
            # A file that is empty, or was removed while the run goes on, gets a header again.
            data = ((header if size else encode_header(self.header)) + lines).encode()
            try:
                if os.write(descriptor, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                if self._fsync:
                    os.fsync(descriptor)
            except BaseException:  # Ctrl-C too: records that may not be on disk are written again by the next flush
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        self._begun = True

    def close(self) -> None:
        """Give up the log."""
        if self.is_mine:
            self._lock.release()
            if _OPEN.get(self.path) is self:
                del _OPEN[self.path]

    def _hand_over(self) -> None:
        warn(f"{self.path} is opened again in this process; the manager that had it open is closed")
        give_up = self.on_taken_over() if self.on_taken_over is not None else None
        (give_up or self.close)()

    def _begin(self) -> dict[str, Any]:
        """Make the file ready for the first append, and return the header for it."""
        if not self.path.exists() or not self.path.stat().st_size:
            return self.header
        if self._resume:
            _cut_torn_line(self.path)
            return {**self.header, "resumed": True}
        aside = _free_name(self.path)
        self.path.rename(aside)
        self.header["moved_aside"] = aside.name
        return self.header


def _refuse_what_is_no_file(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing is there, or it shows when the directory is made
    if not stat.S_ISREG(mode):
        raise LossLogError(f"{path} is not an ordinary file, so that it is not written to; move it away")


def _cut_torn_line(path: Path) -> None:
    """Remove what follows the last line end: a line that a kill left unfinished."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _TAIL)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)


def _free_name(path: Path) -> Path:
    number = 1
    while (candidate := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    return candidate
