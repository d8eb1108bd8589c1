"""The runs that a command is given: each is opened as a `LossLog`, under a label that tells it from the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from nectargan_core import LossLog

_F = TypeVar("_F", bound=Callable[..., Any])


def runs_argument(command: _F) -> _F:
    """Give a command the argument `RUNS`, at least one directory of a run or loss log."""
    return click.argument("runs", nargs=-1, required=True, metavar="RUN...")(command)


def open_runs(paths: Sequence[str]) -> dict[str, LossLog]:
    """Return the log of each run, by its label.

    Args:
        paths: Directories of runs, or loss logs.

    Raises:
        click.UsageError: If one is given twice.
        LossLogError: If there is no log at one of them.
    """
    # Imported here, since it imports numpy and pydantic.
    from nectargan_core.log import LossLog

    return {label: LossLog(path) for label, path in zip(labels(paths), paths, strict=True)}


def labels(paths: Sequence[str]) -> list[str]:
    """Return a short label for each path: so many of its last parts as tell it from the others.

    The name of a loss log is left out, since its directory says which it is.

    Raises:
        click.UsageError: If a path is given twice.

    Example:
        >>> labels(["runs/a/first", "runs/b/first", "other/loss_log.jsonl"])
        ['a/first', 'b/first', 'other']
    """
    whole = [_parts(Path(path)) for path in paths]
    for index, parts in enumerate(whole):
        if parts in whole[:index]:
            raise click.UsageError(f"{paths[index]} is given twice")
    found = []
    for parts in whole:
        count = 1
        while any(other != parts and other[-count:] == parts[-count:] for other in whole) and count < len(parts):
            count += 1
        found.append("/".join(parts[-count:]))
    return found


def _parts(path: Path) -> tuple[str, ...]:
    # What is not there is an error that the reader raises.
    resolved = path.resolve()
    directory = resolved.parent if resolved.is_file() and resolved.name.startswith("loss_log.json") else resolved
    return directory.parts or (str(path),)
