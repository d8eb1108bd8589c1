"""Records of the copies that were made from the published weights, in a folder that only this user can write.

A record is an empty file whose name holds the SHA-256 of a copy. It lies apart from the copy, since a hash beside the
copy could be exchanged together with it.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path


def folder() -> Path:
    """Return the folder of the records, which need not exist.

    It is `nectargan-vgg` in `XDG_STATE_HOME`, or else in `~/.local/state`; on Windows in `LOCALAPPDATA`.

    Raises:
        OSError: If the user has no home folder.
    """
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_STATE_HOME"
    named = Path(os.environ.get(variable, ""))
    try:
        return (named if named.is_absolute() else Path.home() / ".local" / "state") / "nectargan-vgg"
    except RuntimeError as error:
        raise OSError(str(error)) from error


def private_folder() -> Path:
    """Return the folder of the records, made if it is missing.

    Raises:
        OSError: If it cannot be made, or is not the user's own, or others can write to it.
    """
    path = folder()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(path)
    return path


def is_recorded(name: str) -> bool:
    """Say whether there is a record of this name.

    Raises:
        OSError: If the folder of the records is not the user's own, or others can write to it.
    """
    path = folder()
    try:
        _check_private(path)
        return stat.S_ISREG((path / name).lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def record(name: str) -> None:
    """Make a record of this name, unless there is one.

    Raises:
        OSError: If it cannot be made.
    """
    os.close(os.open(private_folder() / name, os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600))


def _check_private(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EPERM, f"{path} is not a folder")
    # On Windows the folder has its protection from LOCALAPPDATA, and its mode says nothing.
    if sys.platform != "win32" and (found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise OSError(errno.EPERM, f"{path} is not a folder of yours that only you can write")
