"""The file that a manager appends its log to: locked by one process, appended to by whole lines, never overwritten."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from filelock import FileLock, Timeout

from nectargan_core._messages import one_line, warn
from nectargan_core.errors import LossLogError
from nectargan_core.log._format import check, encode_header

_STEM = "loss_log"
_TAIL = 1 << 16
# Follow no symlink, and do not wait for whoever reads a FIFO.
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
# What a file system says that has no locks.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
_OPEN: weakref.WeakValueDictionary[Path, LogFile] = weakref.WeakValueDictionary()

_Identity: TypeAlias = tuple[int, int]
"""What a file keeps under any name: its device and inode."""


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
    `loss_log.<n>.jsonl`; it is never overwritten. The file is followed where it is renamed, and begun again where it is
    removed. Where its lock was removed and another process has the log, this one goes on in a file of its own.

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
        # What the lock is for, whatever file the log goes on in.
        self._contested = self.path
        self._resume = resume
        self._fsync = fsync
        # Called when the same process opens the log again, to close the manager that has it open.
        self.on_taken_over: weakref.WeakMethod[Callable[[], None]] | None = None
        self._header = header
        # Returns what is new in the header since it was written.
        self._described: Callable[[], Mapping[str, Any]] | None = None
        # The header line that the append of this number begins with.
        self._header_line, self._header_for = b"", -1
        self._descriptor: int | None = None
        # Whether `path` is of this log, and which file that was.
        self._begun = False
        self._identity: _Identity | None = None
        # How many appends were made, and where the file then ended: one value, for an interrupt comes between two.
        self._done = (0, 0)
        # How many files were opened: what was read of one is no part of another.
        self.opened = 0
        self._pid = os.getpid()
        self._lock: FileLock | None = None
        self._lock_identity: _Identity | None = None
        former = _OPEN.get(self.path)
        if former is not None and former.is_mine:
            former._hand_over()
        _refuse_what_is_no_file(self.path)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        except Timeout:
            raise LossLogError(_locked(self.path)) from None
        except OSError as error:
            raise LossLogError(f"cannot log to {directory}: {error.strerror or error}") from error
        _OPEN[self.path] = self

    @property
    def is_mine(self) -> bool:
        """Whether this process opened the log; a forked worker only inherited it."""
        return os.getpid() == self._pid

    @property
    def written(self) -> int:
        """How many appends were made."""
        return self._done[0]

    def describe(self, fields: Callable[[], Mapping[str, Any]]) -> None:
        """Have the header say more from now on; where it is written already, the next append begins with another one.

        Args:
            fields: Returns what it says of the losses. It is called when the header is written; an error that it raises
                becomes a warning.
        """
        self._described = fields

    def append(self, lines: str, number: int) -> None:
        """Write whole lines with one write, unless they are written.

        Args:
            lines: The lines.
            number: What `written` was when the lines were made. An append that an interrupt broke off is made again
                with the same lines and number; what of it is in the file is not written again.

        Raises:
            OSError: If they could not all be written. The file is then as it was before, unless `is_torn`.
        """
        if self.written > number:
            return
        descriptor = self._ready(number)
        self._write(descriptor, (self._header_line if self._header_for == number else b"") + lines.encode(), number)

    @property
    def is_torn(self) -> bool:
        """Whether a part of an append is in the file that failed and could not be taken back."""
        try:
            return self._descriptor is not None and os.fstat(self._descriptor).st_size > self._done[1]
        except OSError:
            return True

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes of the log from one position up to another.

        Args:
            start: Where they begin.
            stop: Where they end, at the latest where the last append, or what a resumed run has found, ends.

        Raises:
            OSError: If it cannot be read.
        """
        descriptor = self._descriptor
        if descriptor is not None:
            return read_at(descriptor, start, min(stop, self._done[1]) - start)
        if not (self._begun or self._resume) or not self.path.exists():
            return b""  # what is there is moved aside by the first append
        descriptor = _open(self.path, os.O_RDONLY)
        try:
            return read_at(descriptor, start, stop - start)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Give up the log. An `append` that comes later all the same opens it again."""
        if not self.is_mine:
            return
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        if self._lock is not None:
            self._lock.release()
        self._lock_identity = None
        if _OPEN.get(self._contested) is self:
            del _OPEN[self._contested]

    def _hand_over(self) -> None:
        warn(f"{self.path} is opened again in this process; the manager that had it open is closed")
        give_up = self.on_taken_over() if self.on_taken_over is not None else None
        (give_up or self.close)()

    # Which file it is

    def _ready(self, number: int) -> int:
        """Return the open file of this log; a header is due where it has none, or an old one."""
        descriptor = self._descriptor
        if descriptor is None or not self._is_there(descriptor):
            return self._begin(number)
        if self._header_for != number and os.fstat(descriptor).st_size == 0:
            self._expect_header(number)
        elif self._header_for != number and self._described is not None:
            self._expect_header(number, only_if_new=True, continued=True)
        return descriptor

    def _is_there(self, descriptor: int) -> bool:
        """Whether an open file is still that of this log, under whatever name."""
        try:
            status = os.fstat(descriptor)
        except OSError as error:  # such as a stale handle of a network file system
            if not is_of_system(error):
                raise
            return False
        if not status.st_nlink:
            return False
        here = (status.st_dev, status.st_ino)
        if _identity(self.path) == here:
            return self.path != self._contested or self._has_lock() or self._take_lock_again()
        # It was renamed, or its directory was. Whoever comes upon it there does not write to it.
        moved = next((path for path in self.path.parent.glob(f"{_STEM}*.jsonl") if _identity(path) == here), None)
        if moved is not None:
            former, self.path = self.path, moved
            warn(f"{former} was renamed; the log of this run goes on in {moved}")
        return True

    def _begin(self, number: int) -> int:
        """Open the file to append to: that of the path, or one of its own where another process has that."""
        former, self._descriptor = self._descriptor, None
        if former is not None:
            os.close(former)
        if self.path == self._contested and not self._may_begin():
            self.path, self._begun = free_name(self._contested), False
            self._header["instead_of"] = self._contested.name
            warn(
                f"another process logs to {self._contested}, whose lock was removed or moved while this run went on; "
                f"this run goes on in {self.path}"
            )
        _refuse_what_is_no_file(self.path)
        more: dict[str, Any] = {}
        if self.path.exists() and self.path.stat().st_size:
            if self._resume or self._begun:
                more["resumed"] = True
            else:
                aside = free_name(self.path)
                self.path.rename(aside)
                self._header["moved_aside"] = aside.name
        self._begun = True
        self.opened += 1
        descriptor = _open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self._identity = _identity(self.path)
        _cut_torn_line(descriptor)
        self._done = (number, os.fstat(descriptor).st_size)
        self._expect_header(number, **more)
        self._descriptor = descriptor  # last, so that an interrupt before it lets all of this be done again
        return descriptor

    def _expect_header(self, number: int, *, only_if_new: bool = False, **more: Any) -> None:
        """Let the append of a number begin with a header; if `only_if_new`, where it says something else by now."""
        described = self._described
        header = dict(self._header)
        if described is not None:
            try:
                header.update(described())
            except Exception as error:  # noqa: BLE001 # what is said of losses must not cost their records
                warn(f"the objective cannot be recorded in the header of {self.path}: {one_line(error)}")
        if not only_if_new or header != self._header:
            line = encode_header({**header, **more}).encode()
            self._header = header
            self._header_line, self._header_for = line, number
        # Last, so that an interrupt before it lets all of this be done again.
        if self._described is described:
            self._described = None

    # The lock

    def _take_lock(self) -> None:
        """Take the lock, and write into its file who has it.

        Raises:
            Timeout: If another process has it.
            OSError: If it cannot be taken.
        """
        path = _lock_path(self._contested)
        lock = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire()
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            warn(
                f"{self._contested} is on a file system without locks; it is logged to all the same, so give every run "
                "an experiment_dir of its own"
            )
            self._lock = None
            return
        self._lock, self._lock_identity = lock, _identity(path)
        with contextlib.suppress(OSError):  # It only serves the message for others.
            path.write_text(f"{os.getpid()} {socket.gethostname()} {time.time():.0f}\n", encoding="utf-8")

    def _has_lock(self) -> bool:
        """Whether the lock that this process has is still the one that others come upon."""
        if self._lock is None:
            return True  # a file system without locks
        return self._lock_identity is not None and _identity(_lock_path(self._contested)) == self._lock_identity

    def _take_lock_again(self) -> bool:
        """Take the lock where it was removed; returns whether no other process was faster."""
        if not self._contested.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._contested.parent))
        if self._lock is not None:
            self._lock.release()  # The file that it is on is gone.
        self._lock_identity = None
        try:
            self._take_lock()
        except Timeout:
            return False
        return True

    def _may_begin(self) -> bool:
        """Whether this process may open the file at the path: not where another one has, or had it meanwhile."""
        if self._has_lock():
            return True
        return self._take_lock_again() and (not self._begun or _identity(self._contested) in (None, self._identity))

    # Writing

    def _write(self, descriptor: int, data: bytes, number: int) -> None:
        size = os.fstat(descriptor).st_size
        end = min(self._done[1], size)
        if end < self._done[1]:
            self.opened += 1  # Somebody cut it, so that what was read of it is not there any more.
        data = _separated(descriptor, end, data)
        # What an interrupted append left is the begin of the same lines. Otherwise somebody else wrote it.
        left = read_at(descriptor, end, min(len(data), size - end))
        if data.startswith(left):
            rest = data[len(left) :]
        else:
            end = size
            data = rest = _separated(descriptor, end, data)
        try:
            written = os.write(descriptor, rest) if rest else 0
            if written < len(rest):  # A second write says what is in the way.
                written += os.write(descriptor, rest[written:])
            if written < len(rest):
                raise OSError(errno.EIO, "it can be written in small parts only", str(self.path))
            if self._fsync:
                os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, end)
            raise
        self._done = (number + 1, end + len(data))


def _open(path: Path, flags: int) -> int:
    """Open an ordinary file, and nothing else.

    Raises:
        OSError: If it cannot be opened.
    """
    descriptor = os.open(path, flags | _SAFELY, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not an ordinary file any more", str(path))
    return descriptor


def read_at(descriptor: int, start: int, count: int) -> bytes:
    """Read up to so many bytes from a position on."""
    data = b""
    while len(data) < count and (more := os.pread(descriptor, count - len(data), start + len(data))):
        data += more
    return data


def _separated(descriptor: int, end: int, data: bytes) -> bytes:
    """Return data to append at a position, with a line end first where the line before it has none."""
    return data if end == 0 or read_at(descriptor, end - 1, 1) == b"\n" else b"\n" + data


def _identity(path: Path) -> _Identity | None:
    try:
        status = path.lstat()
    except OSError as error:
        if not is_of_system(error):
            raise
        return None
    return status.st_dev, status.st_ino


def _refuse_what_is_no_file(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing is there, or it shows when the directory is made
    if not stat.S_ISREG(mode):
        raise LossLogError(f"{path} is not an ordinary file, so that it is not written to; move it away")


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _locked(path: Path) -> str:
    """Return what to say of a log that another process has."""
    lock = _lock_path(path)
    try:
        pid, host, began = lock.read_text(encoding="utf-8", errors="replace").split()
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(began)))
    except (OSError, ValueError, OverflowError):
        return (
            f"{path} is being written by another process; give this run an experiment_dir of its own, or stop the other"
        )
    return (
        f"{path} is being written by another process, {pid} on host {host!r}, since {since}; give this run an "
        f"experiment_dir of its own, or stop the other. If `ps -p {pid}` on that host shows that it has ended, remove "
        f"{lock}"
    )


def _cut_torn_line(descriptor: int) -> None:
    """Remove what follows the last line end, which a kill left unfinished; a line whose checksum holds stays."""
    size = end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - _TAIL)
        newline = read_at(descriptor, start, end - start).rfind(b"\n")
        if newline >= 0:
            break
        end = start
    begin = start + newline + 1 if end > 0 else 0
    if begin == size:
        return
    try:
        check(read_at(descriptor, begin, size - begin))
    except ValueError:
        os.ftruncate(descriptor, begin)


def is_of_system(error: OSError) -> bool:
    """Whether an error is one of files, and not one that a signal handler has raised, such as a `TimeoutError`."""
    return error.errno is not None or isinstance(error, LossLogError)


def free_name(path: Path) -> Path:
    """Return the first `<name>.<n><suffix>` beside a file that is not taken."""
    number = 1
    while (candidate := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    return candidate
