"""The command `nectargan log show`: what a run has recorded, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from nectargan_core.cli._log_runs import open_runs, runs_argument
from nectargan_core.cli._table import print_table


@click.command()
@runs_argument
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects, one for each run.")
def show(runs: Sequence[str], as_json: bool) -> None:
    """Show what each RUN has recorded. RUN is the directory of a run, or its loss log."""
    found = {label: {name: len(log.series(name)) for name in log.names} for label, log in open_runs(runs).items()}
    if as_json:
        click.echo(json.dumps([{"run": label, "records": records} for label, records in found.items()], indent=2))
        return
    rows = [[label, name, str(count)] for label, records in found.items() for name, count in records.items()]
    print_table(["run", "name", "records"], rows)
