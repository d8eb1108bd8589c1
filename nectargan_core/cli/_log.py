"""The group of commands `nectargan log`: what they have in common; each command is a module `_log_*.py`."""

from __future__ import annotations

import warnings
from typing import Any, TextIO

import click

from nectargan_core.cli._log_compare import compare
from nectargan_core.cli._log_export import export
from nectargan_core.cli._log_plot import plot
from nectargan_core.cli._log_report import report
from nectargan_core.cli._log_show import show
from nectargan_core.cli._log_watch import watch
from nectargan_core.cli._table import print_note
from nectargan_core.errors import NectarganWarning


class _Log(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("always", NectarganWarning)
            warnings.showwarning = _show_warning
            return super().invoke(ctx)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    # A damaged line of a log is the user's concern, the line of this program that has found it is not.
    print_note(f"Warning: {message}", err=True)


@click.group(cls=_Log)
def log() -> None:
    """Look at the losses of runs: as a table, as pictures, in a report, live, and in other formats."""


log.add_command(compare)
log.add_command(export)
log.add_command(plot)
log.add_command(report)
log.add_command(show)
log.add_command(watch)
