"""The command line program `nectargan`."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click
from pydantic import ValidationError

from nectargan_core.diagnosis import Row, diagnose
from nectargan_core.errors import NectarganError
from nectargan_core.names import printable
from nectargan_core.plot import plot
from nectargan_core.schedule import Schedule, reasons


class _Program(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NectarganError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Program)
@click.version_option(package_name="nectargan-core")
def main() -> None:
    """Look at what NectarGAN finds installed, and at what it would do."""


@main.command()
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


@main.group()
def schedules() -> None:
    """Look at schedules before they run."""


@schedules.command("plot")
@click.argument("name")
@click.option("--unit", type=click.Choice(["epoch", "step"]), default="epoch", help="What it counts.  [epoch]")
@click.option("--start", type=float, help="Epoch (or step) at which it begins to change.  [0]")
@click.option("--end", type=float, help="Epoch (or step) at which it has changed.")
@click.option("--initial", "initial_value", type=float, help="Value before.  [1]")
@click.option("--target", "target_value", type=float, help="Value after.  [1]")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Parameter of the curve, in JSON.")
@click.option("--epochs", type=click.IntRange(min=1), help="Up to which epoch (or step).  [a quarter beyond the end]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The picture.  [NAME.png]")
def plot_schedule(
    name: str,
    unit: Literal["epoch", "step"],
    params: Sequence[str],
    epochs: int | None,
    out: Path | None,
    **ends: float | None,
) -> None:
    """Draw the schedule NAME as a picture, such as: cosine --start 100 --end 200 --initial 10 --target 0."""
    given: Any = {key: value for key, value in ends.items() if value is not None}
    try:
        schedule = Schedule(name, unit=unit, params=dict(map(_param, params)), **given)
    except ValidationError as error:
        raise click.UsageError(reasons(error)) from error
    if epochs is None:
        epochs = 100 if ends["end"] is None else max(1, math.ceil(1.25 * ends["end"]))
    path = out or Path(f"{name.replace('/', '-')}.png")
    try:
        plot(schedule, epochs, path)
    except (OSError, ValueError) as error:
        if isinstance(error, NectarganError):
            raise
        raise click.ClickException(f"cannot write {path}: {error}") from error
    click.echo(path)


def _param(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--param takes NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


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
    # A name or a docstring may have letters that the terminal's encoding has not.
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(line.encode(encoding, "backslashreplace").decode(encoding))
