"""The command `nectargan log export`: hands the records of runs on to other tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nectargan_core.cli._log_out import checked_out, not_written
from nectargan_core.cli._log_runs import open_runs, runs_argument
from nectargan_core.errors import NectarganError

if TYPE_CHECKING:
    from nectargan_core import LossLog

_FORMATS = ("json", "csv", "parquet")


@click.command()
@runs_argument
@click.option(
    "--format",
    "kind",
    type=click.Choice(_FORMATS),
    help="json: the log of NectarGAN; csv and parquet: a row for each record.  [what the suffix of FILE says]",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False),
    help="The file. Without it, or as -, JSON and CSV are printed.",
)
@click.option("--json", "in_json", is_flag=True, help="Print a JSON object that says what was written.")
def export(runs: Sequence[str], kind: str | None, out: str | None, in_json: bool) -> None:
    """Write the records of RUN for other tools, such as: runs/a -o a.csv, or runs/a --format csv | head.

    RUN is the directory of a run, or its loss log. Several can be written as CSV and Parquet, with a column `run`; the
    log of NectarGAN holds one. Of several ranks a row is the mean over the ranks at a step.

    The exit status is 0, also where the log has no records yet, 1 if it cannot be read or the file cannot be written,
    and 2 if the command was not understood.
    """
    path = None if out in (None, "-") else checked_out(out)
    if kind is None:
        kind = "" if path is None else path.suffix[1:].lower()
        if kind not in _FORMATS:
            named = f"{path} has another suffix" if path else "there is no -o FILE whose suffix says it"
            raise click.UsageError(f"give --format json, csv or parquet, since {named}")
    if kind == "json" and len(runs) > 1:
        raise click.UsageError("the log of NectarGAN holds one run; export one after the other, or use csv or parquet")
    if path is None and (kind == "parquet" or in_json):
        raise click.UsageError(
            f"{'Parquet is' if kind == 'parquet' else 'with --json the records are'} not printed; give -o FILE"
        )
    opened = open_runs(runs)
    try:
        count = _write(opened, kind, path)
    except (OSError, ValueError) as error:
        if isinstance(error, (NectarganError, BrokenPipeError)):
            raise
        raise not_written(path, error) from error
    if path is not None:
        said = {"out": str(path), "format": kind, "runs": list(opened), "records": count}
        click.echo(json.dumps(said, indent=2) if in_json else path)


def _write(runs: Mapping[str, LossLog], kind: str, out: Path | None) -> int:
    from nectargan_core.log import as_nectargan_log, write_csv, write_parquet

    (log, *_) = runs.values()
    if kind == "parquet" and out is not None:
        return write_parquet(runs, out)
    if kind == "json":
        if out is None:
            sys.stdout.write(as_nectargan_log(log.header, {name: log.series(name) for name in log.names}) + "\n")
        else:
            log.to_json(out)
        return sum(len(log.series(name)) for name in log.names)
    if out is None:
        return write_csv(runs, sys.stdout)
    with out.open("w", encoding="utf-8", newline="") as file:
        return write_csv(runs, file)
