"""The command `nectargan log show`: what a run has recorded, as tables or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from nectargan_core.cli._log_runs import open_runs, query_option, runs_argument
from nectargan_core.cli._numbers import as_json
from nectargan_core.cli._table import filled, fits, print_note, print_table

if TYPE_CHECKING:
    from nectargan_core import LossLog
    from nectargan_core.log import Summary, Value

# What a narrow terminal has no room for, first what is missed least.
_LEFT_OUT = ("records", "highest", "lowest", "step")


@click.command()
@runs_argument
@query_option
@click.option("--json", "in_json", is_flag=True, help="Print a list of JSON objects, one for each run.")
def show(runs: Sequence[str], query: Sequence[str], in_json: bool) -> None:
    """Show what each RUN has recorded: of each loss the last value, the mean of the last epoch, the lowest, the weight.

    RUN is the directory of a run, or its loss log. Losses are weighted, as they are summed.
    """
    # Imported here, since it imports numpy and pydantic.
    from nectargan_core.log import about, entries, matching, nonfinite, summaries, tables

    opened = open_runs(runs)
    asked = matching({label: entries(log) for label, log in opened.items()}, query or None)
    found = {label: (log, summaries(log, asked[label])) for label, log in opened.items()}
    if in_json:
        objects = [_as_object(label, log, rows) for label, (log, rows) in found.items()]
        click.echo(json.dumps(objects, indent=2, allow_nan=False))
        return
    for index, (label, (log, rows)) in enumerate(found.items()):
        if index:
            click.echo()
        print_note(about(label, log))
        if not rows:
            # Another run has what was asked for.
            print_note(f"It has nothing of {', '.join(query)}." if query and log.names else "It has no records yet.")
        for headings, table in tables(rows):
            if table:
                click.echo()
                _print(*filled(headings, table))
        if said := nonfinite(rows):
            click.echo()
            print_note(said)


def _print(headings: list[str], table: list[list[str]]) -> None:
    """Print a table, without some of its columns where a narrow terminal has no room for all."""
    for heading in _LEFT_OUT:
        if heading in headings and not fits(headings, table):
            kept = [place for place, each in enumerate(headings) if each != heading]
            headings, table = [headings[place] for place in kept], [[row[place] for place in kept] for row in table]
    print_table(headings, table)


# JSON


def _as_object(label: str, log: LossLog, rows: Sequence[Summary]) -> dict[str, Any]:
    header = log.header
    keys = ("experiment", "objective", "started", "total_epochs", "total_steps", "dataset_length", "metadata")
    manifest = header.get("manifest")
    return {
        "run": label,
        **{key: header.get(key) for key in keys},
        "fingerprint": manifest.get("fingerprint") if isinstance(manifest, Mapping) else None,
        "resumed": max(0, len(log.headers) - 1),
        "ranks": list(log.ranks),
        "series": [_series(each) for each in rows],
    }


def _series(each: Summary) -> dict[str, Any]:
    return {
        "name": each.entry.name,
        "split": each.entry.split or None,
        "kind": each.entry.kind,
        "tags": list(each.entry.tags),
        "of": each.entry.of or None,
        "records": each.records,
        "nonfinite": each.nonfinite,
        "first_step": each.first_step,
        "last_step": each.last_step,
        "last_epoch": as_json(each.last_epoch),
        "last": as_json(each.last),
        "unweighted": as_json(each.unweighted),
        "epoch_mean": as_json(each.epoch_mean),
        "lowest": _extreme(each.lowest),
        "highest": _extreme(each.highest),
        "first_weight": as_json(each.first_weight),
        "weight": as_json(each.weight),
    }


def _extreme(extreme: Value | None) -> dict[str, Any] | None:
    return None if extreme is None else {key: as_json(value) for key, value in extreme._asdict().items()}
