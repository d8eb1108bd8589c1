"""The command `nectargan log compare`: runs beside each other, as tables or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import click

from nectargan_core._printable import printable
from nectargan_core.cli._log_runs import labels, runs_argument
from nectargan_core.cli._table import fits, print_note, print_table

if TYPE_CHECKING:
    from nectargan_core.views import Comparison, Table

# More runs than these are listed by value, in place of a column for each.
_FEW_RUNS = 4


@click.command()
@runs_argument
@click.option("--metric", help="A name in the logs, such as val/psnr: show its best value, and the best run first.")
@click.option(
    "--best",
    type=click.Choice(["min", "max"]),
    help="Whether the lowest or highest value of the metric is best.  [min of a loss; of others by their name]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def compare(runs: Sequence[str], metric: str | None, best: Literal["min", "max"] | None, as_json: bool) -> None:
    """Compare RUNs: the best value of a metric, last values, and what differs in their objectives and metadata.

    RUN is the directory of a run, or its loss log. Values are unweighted. Of a loss of the training, in a run of
    several epochs, the mean of each epoch counts, and of all else the mean of each step.

    The exit status is 0, 1 if a log cannot be read or no run has the metric, and 2 if the command was not understood.
    """
    if best is not None and metric is None:
        raise click.UsageError("--best is of a metric; give --metric, such as --metric val/psnr")
    # Imported here, since it imports torch.
    from nectargan_core import views

    found = views.compare(dict(zip(labels(runs), runs, strict=True)), metric, best)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, allow_nan=False))
        return
    _print(views.table_of_runs(found), names={f"lowest {metric}", f"highest {metric}"})
    values = views.table_of_values(found)
    if values.rows:
        click.echo()
        print_note(f"{values.title}:")
    for number, part in enumerate(_fitting(values)):
        if number:
            click.echo()
        _print(part, names=set(part.headings[1:]) if len(runs) > 1 else set())
    if len(runs) > 1:
        click.echo()
        _print_differences(views.table_of_differences(found), views.grouped(found), len(runs))
    if found.notes:
        click.echo()
    for note in found.notes:
        print_note(f"Note: {note}")
    if metric is not None and best is None and _is_scalar(found, metric):
        other = "--best max takes the highest" if found.best == "min" else "--best min takes the lowest"
        print_note(f"Note: {other} {metric}")


def _is_scalar(found: Comparison, metric: str) -> bool:
    return {run.series[metric].kind for run in found.runs if metric in run.series} == {"metric"}


def _print(table: Table, names: set[str]) -> None:
    print_table(table.headings, table.rows, names=names)


def _fitting(table: Table) -> Iterator[Table]:
    """Yield a table of a row for each loss; or of a row for each run, or in parts, where that is too wide."""
    if not table.rows:
        return
    from nectargan_core.views import turned

    by_run = turned(table, "run")
    if fits(table.headings, table.rows) or table.headings[1] == "last":
        yield table._replace(headings=["name", *table.headings[1:]])
    elif fits(by_run.headings, by_run.rows):
        yield by_run
    else:
        first = 1
        while first < len(table.headings):
            last = first + 1
            while last < len(table.headings) and fits(*_columns(table, first, last + 1)):
                last += 1
            headings, rows = _columns(table, first, last)
            yield table._replace(headings=["name", *headings[1:]], rows=rows)
            first = last


def _columns(table: Table, first: int, stop: int) -> tuple[list[str], list[list[str]]]:
    return (
        [table.headings[0], *table.headings[first:stop]],
        [[row[0], *row[first:stop]] for row in table.rows],
    )


def _print_differences(table: Table, grouped: Table, runs: int) -> None:
    if not table.rows:
        print_note("Nothing differs in what the logs say of the objectives, the metadata and the runs.")
        return
    print_note("What differs:")
    shown = table if runs <= _FEW_RUNS and fits(table.headings, table.rows) else grouped
    rows = [["\n".join(map(printable, cell.split("\n"))) for cell in row] for row in shown.rows]
    print_table(shown.headings, rows, names=set(shown.headings[2:]) if shown is table else ())
