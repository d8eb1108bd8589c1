"""The file that a command writes: what `-o` may be, and what is said where it cannot be written."""

from __future__ import annotations

import os
from pathlib import Path

import click


def checked_out(out: str) -> Path:
    """Return the path that an option `-o` gives.

    Raises:
        click.UsageError: If it is empty, or names a directory.
        click.ClickException: If its directory is not there.
    """
    if not out:
        raise click.UsageError("-o is empty; give the name of a file")
    if out.endswith(("/", os.sep)):
        raise click.UsageError(f"-o {out} is a directory; give the name of a file in it")
    path = Path(out)
    there = path.parent
    if not there.is_dir():
        raise click.ClickException(f"cannot write {path}: there is no directory {there}; make it: mkdir -p {there}")
    return path


def not_written(out: Path | None, error: Exception) -> click.ClickException:
    """Return the error of a file that could not be written; None stands for standard output."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return click.ClickException(f"cannot write {out or 'to standard output'}: {reason}")
