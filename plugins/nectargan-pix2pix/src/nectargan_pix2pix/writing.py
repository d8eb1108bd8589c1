"""Files that are replaced as a whole: at any moment there is the old file or the new one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def replace(path: Path, data: bytes | memoryview) -> None:
    """Put a file in the place of one that may be there.

    The data is written to a temporary file beside it, which is flushed to the disk and then renamed, so that the file
    survives a process that is killed and a machine that loses power at any moment.

    Args:
        path: The file; its directory has to be there.
        data: What it is to hold.

    Raises:
        OSError: If it cannot be written; what was there before is there still.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     replace(Path(directory, "a.txt"), b"whole")
        ...     Path(directory, "a.txt").read_text()
        'whole'
    """
    # Of a fixed name, so that one that a killed process has left is overwritten by the next.
    temporary = path.with_name(temporary_name(path.name))
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _flush_directory(path.parent)


def temporary_name(name: str) -> str:
    """Return the name of the file beside one that is replaced.

    Example:
        >>> temporary_name("a.txt")
        '.a.txt.tmp'
    """
    return f".{name}.tmp"


def check_writable(directory: Path) -> None:
    """Raise if files cannot be written to a directory, which need not be there yet; nothing is left in it.

    Raises:
        OSError: If it cannot be made, or no file can be made in it.
    """
    there = directory.absolute()
    while not there.exists() and not there.is_symlink():
        there = there.parent
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is not a directory")
    # Asked by doing it: permissions alone do not tell of a file system that is mounted read-only.
    with tempfile.TemporaryFile(dir=there) as file:
        file.write(b"\0")
        file.flush()


def _flush_directory(directory: Path) -> None:
    """Let the disk have the new name of a file, where the system can open directories."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
