"""The command `nectargan log report`: runs as one page that opens in a browser."""

from __future__ import annotations

import json
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
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object that says what was written.")
def report(runs: Sequence[str], out: Path | None, pictures: Sequence[Path], as_json: bool) -> None:
    """Write RUNs as one HTML file: curves that zoom and hide, pictures, objectives, and what differs between them.

    RUN is the directory of a run, or its loss log. The file loads nothing, and can be sent to anyone. Its path is
    printed.

    The exit status is 0, 1 if a log cannot be read, a picture cannot be shown or the file cannot be written, and 2 if
    the command was not understood.
    """
    # Imported here, since it imports torch.
    from nectargan_core import views

    if out is None:
        only = Path(runs[0])
        out = Path(_NAME) if len(runs) > 1 else (only if only.is_dir() else only.parent) / _NAME
    paths = dict(zip(labels(runs), runs, strict=True))
    views.write_report(paths, out, pictures or None)
    if as_json:
        click.echo(json.dumps({"out": str(out), "runs": list(paths), "bytes": out.stat().st_size}, indent=2))
    else:
        click.echo(printable(str(out)))
