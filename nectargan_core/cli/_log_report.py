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
    type=click.Path(dir_okay=False),
    help="The file, .html or .htm.  [report.html, of one run in its directory]",
)
@click.option(
    "--picture",
    "pictures",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A picture to show; may be given several times.  [grids/*.png of each run]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object that says what was written.")
def report(runs: Sequence[str], out: str | None, pictures: Sequence[Path], as_json: bool) -> None:
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
        file = Path(_NAME) if len(runs) > 1 else (only if only.is_dir() else only.parent) / _NAME
    elif out == "-":
        raise click.UsageError("-o - would print the page; give a file, such as -o report.html")
    else:
        try:
            file = views.file_of_page(out)
        except ValueError as error:
            raise click.UsageError(f"-o: {error}") from error
    paths = dict(zip(labels(runs), runs, strict=True))
    views.write_report(paths, file, pictures or None)
    if as_json:
        size = file.stat().st_size if file.is_file() else None
        click.echo(json.dumps({"out": str(file), "runs": list(paths), "bytes": size}, indent=2))
    else:
        click.echo(printable(str(file)))
