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
        is_new: Whether a directory of this name that is there is of another run: one with a number behind the name is
            made then.
    """

    def __init__(self, directory: Path, *, is_new: bool = False) -> None:
        self.directory = directory
        self._is_new = is_new
        self._path: Path | None = None
        # Where the last whole block ends; whatever is behind it is of a write that failed.
        self._size = 0
        self._waiting: deque[bytes] = deque(maxlen=_BLOCKS_KEPT)

    def append(self, block: bytes, *, is_last: bool = False) -> None:
        """Write a block, and those before it that could not be written.

        Args:
            block: Events; nothing, to write what waits.
            is_last: Whether no other block follows.

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
            then = f"every flush tries again, and writes up to {_BLOCKS_KEPT} that wait in memory"
            if is_last:
                then = "what waited in memory is lost with this last flush"
            cause = _cause(self.directory, error.strerror or str(error))
            raise NectarganError(f"cannot write to {self.directory}: {cause}; {then}") from error

    def _write(self) -> None:
        if self._path is None or not self._path.exists():
            self._make_directory()
            self._path, self._size = self.directory / self._name(), 0
        data = b"".join([b"" if self._size else events.first(time.time()), *self._waiting])
        with self._path.open("r+b" if self._size else "wb") as file:
            file.seek(self._size)
            file.truncate()
            file.write(data)
        # An interrupt before this line has the same bytes written again, at the same place.
        self._size += len(data)
        self._waiting.clear()

    def _make_directory(self) -> None:
        if not self._is_new:
            self.directory.mkdir(parents=True, exist_ok=True)
            return
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        for suffix in itertools.count(1):
            directory = self.directory if suffix == 1 else self.directory.with_name(f"{self.directory.name}_{suffix}")
            try:
                directory.mkdir()
            except FileExistsError:
                continue
            self.directory, self._is_new = directory, False
            return

    def _name(self) -> str:
        """Return a name that TensorBoard knows, and that comes after those of all files that are there."""
        begun = [int(found[1]) for found in map(_begun, self.directory.iterdir()) if found]
        second = max([int(time.time()), *(each + 1 for each in begun)])
        host = re.sub(r"[^\w.-]", "_", socket.gethostname())
        return f"events.out.tfevents.{second:010d}.{host}.{os.getpid()}.{next(_NUMBERS)}"


def has_events(directory: Path) -> bool:
    """Whether a directory has files of events, of an earlier run or of an earlier process of this one.

    It may have some where that cannot be seen now, as without permission.
    """
    try:
        return any(_begun(path) for path in directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _cause(directory: Path, error: str) -> str:
    """Return why a directory cannot be written, and what to do."""
    for path in (directory, *directory.parents):
        if os.path.lexists(path) and not os.path.isdir(path):  # noqa: PTH112 # Path.is_dir may raise
            return f"{path.name!r} there is no directory, so move it away"
    return f"{error}; see to its permissions and to room on the disk"


def _begun(path: Path) -> re.Match[str] | None:
    return re.search(r"tfevents\.(\d+)\.", path.name)
