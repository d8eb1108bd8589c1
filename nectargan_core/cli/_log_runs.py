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


def query_option(command: _F) -> _F:
    """Give a command the option `--query`, tags, splits and names, which may be given several times."""
    said = "A tag, split or name, such as G, val or G_L1; may be given several times.  [everything]"
    return click.option("--query", multiple=True, metavar="NAME", help=said)(command)


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
    # Imported here, since it imports numpy.
    from nectargan_core import log

    try:
        return log.labels(list(map(Path, paths)))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
