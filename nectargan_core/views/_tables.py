"""The tables of a comparison as text: runs, last values and differences; and how they are shown in a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from nectargan_core._printable import printable
from nectargan_core.log import Value, span_of
from nectargan_core.views._compare import ComparedRun, Comparison

# Of the kinds of names in a log, those that tables have; there may be hundreds of the others.
_SHOWN = ("loss", "metric")


class Table(NamedTuple):
    """A table of text.

    Args:
        title: What it says.
        headings: What stands above each column.
        rows: The cells.
    """

    title: str
    headings: list[str]
    rows: list[list[str]]


def table_of_runs(comparison: Comparison) -> Table:
    """Return a row for each run: its best value, and how long it is."""
    headings = ["run", "steps", "epochs", "duration", "resumed", "ranks"]
    rows = []
    for run in comparison.runs:
        took = "" if run.seconds is None else span_of(run.seconds)
        resumed = f"{run.resumed}x" if run.resumed else ""
        ranks = str(len(run.ranks)) if len(run.ranks) > 1 else ""
        rows.append([run.label, f"{run.steps:,}", f"{run.epochs:,}", took, resumed, ranks])
    if comparison.metric is not None:
        word = "lowest" if comparison.best == "min" else "highest"
        headings[1:1] = [f"{word} {comparison.metric}", "at step", "epoch"]
        for row, run in zip(rows, comparison.runs, strict=True):
            row[1:1] = ["", "", ""] if run.best is None else [number_of(run.best.value), *place_of(run.best)]
    kept = [index for index in range(len(headings)) if index == 0 or any(row[index] for row in rows)]
    return Table("Runs", [headings[index] for index in kept], [[row[index] for index in kept] for row in rows])


def table_of_values(comparison: Comparison) -> Table:
    """Return a row for each loss and metric, with the last value of each run in a column."""
    names = dict.fromkeys(
        name for run in comparison.runs for name, summary in run.series.items() if summary.kind in _SHOWN
    )
    rows = []
    if len(comparison.runs) == 1:
        return _values_of_one(comparison.runs[0], list(names))
    for name in names:
        rows.append([name, *(_last_value(run, name) for run in comparison.runs)])
    title = "Last values (unweighted; in training the mean of an epoch)"
    return Table(title, ["", *(run.label for run in comparison.runs)], rows)


def turned(table: Table, heading: str) -> Table:
    """Return a table with its rows as columns.

    Args:
        table: The table, of which the first column has names.
        heading: What the former headings are.
    """
    columns = [list(column) for column in zip(table.headings, *table.rows, strict=True)]
    return Table(table.title, [heading, *columns[0][1:]], columns[1:])


def _values_of_one(run: ComparedRun, names: Sequence[str]) -> Table:
    rows = []
    for name in names:
        summary, row = run.series[name], [name, _last_value(run, name)]
        for value in (summary.lowest, summary.highest):
            row += ["", ""] if value is None else [number_of(value.value), f"{value.step:,}"]
        rows.append(row)
    return Table("Values (unweighted)", ["", "last", "lowest", "at step", "highest", "at step"], rows)


def _last_value(run: ComparedRun, name: str) -> str:
    value = None if name not in run.series else run.series[name].last
    if value is None:
        return ""
    # Of a loss that was switched off, or a metric that is measured now and then, the last value is an earlier one.
    end = max(math.floor(each.last.epoch) for each in run.series.values() if each.last is not None)
    return number_of(value.value) + (f" (epoch {value.epoch:.6g})" if math.floor(value.epoch) < end else "")


def table_of_differences(comparison: Comparison) -> Table:
    """Return a row for each difference, with what each run has in a column."""
    rows = [[each.kind, each.name, *each.values] for each in comparison.differences]
    return Table("Differences", ["what", "of", *(run.label for run in comparison.runs)], rows)


def grouped(comparison: Comparison) -> Table:
    """Return a row for each difference, with a line for each value and the runs that have it.

    That is for more runs than columns fit.
    """
    rows = []
    for each in comparison.differences:
        runs: dict[str, list[str]] = {}
        for run, value in zip(comparison.runs, each.values, strict=True):
            runs.setdefault(value, []).append(run.label)
        rows.append(
            [each.kind, each.name, "\n".join(f"{value}: {', '.join(labels)}" for value, labels in runs.items())]
        )
    return Table("Differences", ["what", "of", "values, each with its runs"], rows)


def number_of(value: float) -> str:
    """Return a value with five digits.

    Example:
        >>> number_of(26.93412), number_of(1e-7 / 3), number_of(1250.0)
        ('26.934', '3.3333e-08', '1250')
    """
    return f"{value:.5g}" if value != int(value) or abs(value) >= 1e9 else str(int(value))


def place_of(value: Value) -> list[str]:
    """Return step and epoch of a value."""
    return [f"{value.step:,}", f"{value.epoch:.6g}"]


# HTML


def as_html(comparison: Comparison) -> str:
    """Return the tables and notes of a comparison."""
    parts = [html_table(table) for table in (table_of_runs(comparison), table_of_values(comparison))]
    parts.append(html_table(table_of_differences(comparison)))
    parts += [f"<p>{safe(note)}</p>" for note in comparison.notes]
    return "\n".join(filter(None, parts))


def html_table(table: Table, swatches: bool = False) -> str:
    """Return a table without its title; empty text of no rows.

    Args:
        table: The table.
        swatches: Whether a place for the colour of the run stands in each row.
    """
    if not table.rows:
        return ""
    # A notebook aligns numbers, to the right.
    left = ' style="text-align:left"'
    head = "".join(f"<th{left}>{safe(heading)}</th>" for heading in table.headings)
    rows = []
    for number, row in enumerate(table.rows):
        swatch = f'<span class="swatch" data-run="{number}"></span>' if swatches else ""
        rows.append(f"<tr><td{left}>{swatch}{f'</td><td{left}>'.join(safe(cell) or '-' for cell in row)}</td></tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def safe(text: str) -> str:
    """Return text that HTML shows as it is."""
    return escape(printable(text))
