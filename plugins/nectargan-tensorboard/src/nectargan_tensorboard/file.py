"""The file of events that a run appends to, which stays readable whatever interrupts or refuses a write."""

from __future__ import annotations

import itertools
import os
import re
import socket
import time
from collections import deque
from pathlib import Path

from nectargan_core.errors import NectarganError
from nectargan_tensorboard import events

# Where writing fails, this many blocks are kept, so that a full disk does not fill the memory.
_BLOCKS_KEPT = 20
_NUMBERS = itertools.count()


class EventFile:
    """Appends to a file that is opened for each block, so that nothing is left open and a removed file begins anew.

    Args:
        directory: Where the file is; made with the first block.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path: Path | None = None
        # Where the last whole block ends; whatever is behind it is of a write that failed.
        self._size = 0
        self._waiting: deque[bytes] = deque(maxlen=_BLOCKS_KEPT)

    def append(self, block: bytes) -> None:
        """Write a block, and those before it that could not be written.

        Raises:
            NectarganError: If it cannot be written now; the next call tries again.
        """
        if block:
            self._waiting.append(block)
        if not self._waiting:
            return
        try:
            self._write()
        except OSError as error:
            raise NectarganError(
                f"cannot write to {self.directory}: {error.strerror or error}; up to {_BLOCKS_KEPT} flushes wait in "
                "memory, and every flush tries again"
            ) from error

    def _write(self) -> None:
        if self._path is None or not self._path.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            self._path, self._size = self.directory / self._name(), 0
        data = b"".join([b"" if self._size else events.first(time.time()), *self._waiting])
        with self._path.open("r+b" if self._size else "wb") as file:
            file.seek(self._size)
            file.truncate()
            file.write(data)
        # An interrupt before this line has the same bytes written again, at the same place.
        self._size += len(data)
        self._waiting.clear()

    def _name(self) -> str:
        """Return a name that TensorBoard knows, and that comes after those of all files that are there."""
        begun = [int(found[1]) for found in map(_begun, self.directory.iterdir()) if found]
        second = max([int(time.time()), *(each + 1 for each in begun)])
        host = re.sub(r"[^\w.-]", "_", socket.gethostname())
        return f"events.out.tfevents.{second:010d}.{host}.{os.getpid()}.{next(_NUMBERS)}"


def has_events(directory: Path) -> bool:
    """Whether a directory has files of events, of an earlier run or of an earlier process of this one."""
    try:
        return any(_begun(path) for path in directory.iterdir())
    except OSError:
        return False


def _begun(path: Path) -> re.Match[str] | None:
    return re.search(r"tfevents\.(\d+)\.", path.name)
