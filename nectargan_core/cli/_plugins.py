"""The command `nectargan plugins`: prints what is installed, as a table or as JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence

import click

from nectargan_core._printable import printable
from nectargan_core.cli._diagnosis import Row, diagnose


@click.command()
@click.option("--load", is_flag=True, help="Try to load each, in a process of its own; exit with 1 if one fails.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects.")
def plugins(load: bool, as_json: bool) -> None:
    """List the installed plugins: where each comes from, and whether it can be used."""
    rows = diagnose(load)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    else:
        _print_table(rows)
    if load and any(row.state == "broken" for row in rows):
        sys.exit(1)


def _print_table(rows: Sequence[Row]) -> None:
    shown = ("name", "group", "distribution", "version", "target", "state", "variants", "doc")
    table = [[heading.upper() for heading in shown]]
    for row in rows:
        fields = dataclasses.asdict(row) | {"variants": ", ".join(row.variants or ())}
        table.append([_cell(fields[heading]) for heading in shown])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        _print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for row in rows:
        if row.note:
            _print(f"\n{_cell(row.name)} ({_cell(row.distribution)}): {printable(row.note)}")


def _cell(value: str | None) -> str:
    return printable(value) if value else "-"


def _print(line: str) -> None:
    # A name or a docstring may have letters that the encoding of the terminal lacks.
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(line.encode(encoding, "backslashreplace").decode(encoding))
