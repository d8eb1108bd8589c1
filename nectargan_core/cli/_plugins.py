"""The command `nectargan plugins`: prints what is installed, as a table, as JSON, or as requirements for pip."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence

import click

from nectargan_core import catalog
from nectargan_core.cli._diagnosis import Row, diagnose
from nectargan_core.cli._table import print_note, print_table


@click.command()
@click.option(
    "--load", is_flag=True, help="Load each and use it once, in a process of its own; exit with 1 if one does not work."
)
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects.")
@click.option(
    "--requirements", is_flag=True, help="Print what `pip install -r` takes to install core and plugins as they are."
)
def plugins(load: bool, as_json: bool, requirements: bool) -> None:
    """List the installed plugins: where each comes from, and whether it can be used."""
    if requirements:
        if load or as_json:
            raise click.UsageError("--requirements goes without --load and --json")
        for line in catalog.requirements():
            click.echo(line)
        return
    rows = diagnose(load)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    else:
        _print(rows)
    if load and any(row.state in ("broken", "misnamed") for row in rows):
        sys.exit(1)


def _print(rows: Sequence[Row]) -> None:
    headings = ["name", "kind", "distribution", "state", "description"]
    table = [[row.name, row.kind, _release(row), row.state, _description(row)] for row in rows]
    # Only what is loaded has one.
    shown = len(headings) if any(row[-1] for row in table) else len(headings) - 1
    print_table(headings[:shown], [row[:shown] for row in table])
    notes = [f"{row.name or '-'} ({row.distribution}): {row.note}" for row in rows if row.note]
    if notes:
        click.echo()
    for note in notes:
        print_note(note)


def _release(row: Row) -> str:
    return f"{row.distribution} {row.version}" if row.version else row.distribution


def _description(row: Row) -> str:
    variants = f"Variants: {', '.join(row.variants)}." if row.variants else ""
    return " ".join(filter(None, (row.doc, variants)))
