"""The command `nectargan log report`: runs as one page that opens in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from nectargan_core._printable import printable
from nectargan_core.cli._log_runs import labels, runs_argument

_NAME = "report.html"


@click.command()
@runs_argument
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file.  [report.html, of one run in its directory]",
)
@click.option(
    "--picture",
    "pictures",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A picture to show; may be given several times.  [grids/*.png of each run]",
)
def report(runs: Sequence[str], out: Path | None, pictures: Sequence[Path]) -> None:
    """Write RUNs as one HTML file: curves that zoom and hide, pictures, objectives, and what differs between them.

    RUN is the directory of a run, or its loss log. The file loads nothing, and can be sent to anyone. Its path is
    printed.
    """
    # Imported here, since it imports torch.
    from nectargan_core import views

    if out is None:
        only = Path(runs[0])
        out = Path(_NAME) if len(runs) > 1 else (only if only.is_dir() else only.parent) / _NAME
    views.write_report(dict(zip(labels(runs), runs, strict=True)), out, pictures or None)
    click.echo(printable(str(out)))
