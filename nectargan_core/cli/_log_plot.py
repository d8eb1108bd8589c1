"""The command `nectargan log plot`: draws the losses, weights and scalars of runs as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from nectargan_core.cli._log_out import checked_out, not_written
from nectargan_core.cli._log_runs import open_runs, query_option, runs_argument
from nectargan_core.cli._table import print_note
from nectargan_core.errors import NectarganError


@click.command()
@runs_argument
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False),
    default="curves.png",
    help="The picture; its suffix chooses the format: .png where there is none, .svg, .pdf.  [curves.png]",
)
@query_option
@click.option("--by", type=click.Choice(["step", "epoch"]), default="step", help="What it is drawn over.  [step]")
@click.option(
    "--smooth",
    type=click.FloatRange(0, 1),
    help="Part of the run that the smoothed line averages over; 0: no line.  [0.03, at least 9 records]",
)
@click.option("--json", "in_json", is_flag=True, help="Print a JSON object that says what was drawn.")
def plot(
    runs: Sequence[str],
    out: str,
    query: Sequence[str],
    by: Literal["step", "epoch"],
    smooth: float | None,
    in_json: bool,
) -> None:
    """Draw the losses of each RUN, their weights and what else was recorded, as a picture.

    RUN is the directory of a run, or its loss log. Of one run there is a panel for each tag, with the sum of its
    losses. To compare several, there is one for each loss, with a colour for each run.

    The exit status is 0, 1 if a log cannot be read or has no records, or the picture cannot be written, and 2 if the
    command was not understood.
    """
    path = _picture(out)
    # Imported here, since they import numpy and matplotlib.
    from nectargan_core.log import draw_runs, save_figure

    opened = open_runs(runs)
    figure, drawn = draw_runs(opened, query=query or None, by=by, smooth=smooth)
    try:
        save_figure(figure, path)
    except (OSError, ValueError) as error:
        if isinstance(error, NectarganError):
            raise
        raise not_written(path, error) from error
    if not in_json:
        click.echo(path)
        return
    panels = [
        {
            "title": panel.title,
            "kind": panel.kind,
            "log_scale": panel.log_scale,
            "curves": [
                {
                    "name": curve.name,
                    "run": curve.run or next(iter(opened)),
                    "points": len(curve.x),
                    "nonfinite": curve.nonfinite,
                }
                for curve in panel.curves
            ],
        }
        for panel in drawn
    ]
    click.echo(json.dumps({"out": str(path), "by": by, "panels": panels}, indent=2))


def _picture(out: str) -> Path:
    """Return the file of the picture, which has a suffix."""
    if out == "-":
        raise click.UsageError("a picture is not printed; give -o the name of a file")
    path = checked_out(out)
    if path.suffix:
        return path
    path = path.with_name(f"{path.name}.png")
    if path.is_dir():
        raise click.UsageError(f"-o {path} is a directory; give the name of a file in it")
    print_note(f"{out} has no suffix that chooses a format; the picture is {path}", err=True)
    return path
