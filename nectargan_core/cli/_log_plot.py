"""The command `nectargan log plot`: draws the losses, weights and scalars of runs as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from nectargan_core.cli._log_runs import open_runs, query_option, runs_argument
from nectargan_core.errors import NectarganError


@click.command()
@runs_argument
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default="curves.png",
    help="The picture; its suffix chooses the format, such as .png or .svg.  [curves.png]",
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
    out: Path,
    query: Sequence[str],
    by: Literal["step", "epoch"],
    smooth: float | None,
    in_json: bool,
) -> None:
    """Draw the losses of each RUN, their weights and what else was recorded, as a picture.

    RUN is the directory of a run, or its loss log. Of one run there is a panel for each tag, with the sum of its
    losses. To compare several, there is one for each loss, with a colour for each run.
    """
    # Imported here, since they import numpy and matplotlib.
    from nectargan_core.log import draw_runs, save_figure

    opened = open_runs(runs)
    figure, drawn = draw_runs(opened, query=query or None, by=by, smooth=smooth)
    try:
        save_figure(figure, out)
    except (OSError, ValueError) as error:
        if isinstance(error, NectarganError):
            raise
        raise click.ClickException(f"cannot write {out}: {error}") from error
    if not in_json:
        click.echo(out)
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
    click.echo(json.dumps({"out": str(out), "by": by, "panels": panels}, indent=2))
