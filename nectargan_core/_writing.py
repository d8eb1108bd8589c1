"""Writes a file that is there whole or not at all, and leaves whatever else is at its path as it is."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

# Why a directory takes no new file, or none in the place of one that is there, such as one that is mounted itself.
_NOT_REPLACED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)


def replace_file(file: Path, data: bytes) -> None:
    """Write a file, which replaces one of its name when it is complete.

    A symlink is followed, and stays. A file that was there keeps its mode, and its owner where that is allowed. What is
    no ordinary file, such as a FIFO or a device, is written into; so is a file whose directory takes no new one, which
    is then not whole if that fails.

    Raises:
        OSError: If it cannot be written. Nothing is left of a file that was not there before.
    """
    try:
        former = file.stat()
    except FileNotFoundError:
        former = None
    target = Path(os.path.realpath(file))
    if former is None:
        _replace(target, data, None)
    elif not stat.S_ISREG(former.st_mode) or not _is(target, former):
        _write_into(file, data)
    elif not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    else:
        try:
            _replace(target, data, former)
        except OSError as error:
            if error.errno not in _NOT_REPLACED:
                raise
            _write_into(target, data)


def _is(target: Path, former: os.stat_result) -> bool:
    """Whether a path is the file that was found; that of a descriptor, such as /dev/stdout, may lead nowhere."""
    try:
        return os.path.samestat(target.stat(), former)
    except OSError:
        return False


def _replace(target: Path, data: bytes, former: os.stat_result | None) -> None:
    # Of its own length, since that of the name may be the longest possible.
    temporary = target.with_name(f".nectargan-{secrets.token_hex(8)}")
    # What only its owner may read is at no time readable for others.
    mode = 0o666 if former is None else 0o600
    opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    try:
        with os.fdopen(opened, "wb") as writing:
            writing.write(data)
            writing.flush()
            os.fsync(writing.fileno())
        if former is not None:
            _take_over(temporary, former)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _take_over(temporary: Path, former: os.stat_result) -> None:
    made = temporary.stat()
    if (made.st_uid, made.st_gid) != (former.st_uid, former.st_gid):
        with contextlib.suppress(OSError):
            os.chown(temporary, former.st_uid, former.st_gid)
    temporary.chmod(stat.S_IMODE(former.st_mode))


def _write_into(file: Path, data: bytes) -> None:
    # Never created here: what was found may have been removed since.
    with open(file, "wb", opener=lambda path, flags: os.open(path, flags & ~os.O_CREAT)) as opened:
        opened.write(data)
        opened.flush()
        if stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            os.fsync(opened.fileno())
