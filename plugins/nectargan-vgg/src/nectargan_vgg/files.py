"""Reading and writing files in a folder where others may have put something in the way."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Absent on Windows, where a symlink needs a privilege, and a binary file a flag.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_DAY = 24 * 60 * 60


def is_regular(path: Path) -> bool:
    """Say whether there is a regular file, or a symlink to one."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def read_regular(path: Path, *, follow: bool = False) -> bytes:
    """Return the content of a regular file.

    The content is read once, so that what is checked is what is used, whatever happens to the file meanwhile.

    Args:
        path: The file.
        follow: Whether it may be a symlink.

    Raises:
        OSError: If it cannot be read, or is a pipe, a folder or another thing that is no regular file.
    """
    with open_regular(path, follow=follow) as file:
        return file.read()


@contextlib.contextmanager
def open_regular(path: Path, *, follow: bool = False) -> Iterator[BinaryIO]:
    """Open a regular file for reading.

    Args:
        path: The file.
        follow: Whether it may be a symlink.

    Yields:
        The file.

    Raises:
        OSError: As by `read_regular`.
    """
    # Without O_NONBLOCK the opening of a pipe would wait for somebody to write to it.
    descriptor = os.open(path, os.O_RDONLY | _NO_WAIT | _BINARY | (0 if follow else _NO_FOLLOW))
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file that takes its place only when it is complete.

    Until then it has a name that nobody can guess, so that nothing can be put there before. Whatever is at `path` is
    replaced, not written to: a symlink there goes, and its target stays as it is. If the body of the `with` statement
    raises, nothing is left.

    Args:
        path: The place; its folder must exist.

    Yields:
        The file to write to.

    Raises:
        OSError: If the file cannot be written, or there is a folder in its place.
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(16)}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def remove_leftovers(folder: Path, name: str) -> None:
    """Remove what killed processes left behind when they wrote files of this name with `replacing`.

    A file that was written to within the last day stays: another process may be at work on it.
    """
    pattern = re.compile(rf"{re.escape(name)}\.[0-9a-f]{{32}}\.partial")
    with contextlib.suppress(OSError):
        for path in [path for path in folder.iterdir() if pattern.fullmatch(path.name)]:
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > _DAY:
                    path.unlink()
