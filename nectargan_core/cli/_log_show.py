"""The command `nectargan log show`: what a run has recorded, as tables or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from nectargan_core.cli._log_runs import open_runs, query_option, runs_argument
from nectargan_core.cli._numbers import as_json, short
from nectargan_core.cli._table import filled, fits, print_note, print_table

if TYPE_CHECKING:
    from nectargan_core import LossLog
    from nectargan_core.log import Extreme, Summary

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
    from nectargan_core.log import entries, matching, summaries

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
        print_note(_about(label, log))
        if not rows:
            print_note("It has no records yet.")
        for headings, table in _tables(rows):
            if table:
                click.echo()
                _print(*filled(headings, table))
        if bad := [f"{each.entry.name} {each.nonfinite:,} of {each.records:,}" for each in rows if each.nonfinite]:
            click.echo()
            print_note(f"nan or infinite: {', '.join(bad)}")


# Tables


def _print(headings: list[str], table: list[list[str]]) -> None:
    """Print a table, without some of its columns where a narrow terminal has no room for all."""
    for heading in _LEFT_OUT:
        if heading in headings and not fits(headings, table):
            kept = [place for place, each in enumerate(headings) if each != heading]
            headings, table = [headings[place] for place in kept], [[row[place] for place in kept] for row in table]
    print_table(headings, table)


def _about(label: str, log: LossLog) -> str:
    """Return what the headers say of a run, in a line."""
    header = log.header
    said = [f"{label}:"]
    if header.get("objective"):
        said.append(f"{header['objective']},")
    if (started := _time(header.get("started"))) is not None:
        said.append(f"started {started},")
    if len(log.headers) > 1:
        times = len(log.headers) - 1
        said.append(f"resumed {'once' if times == 1 else f'{times} times'},")
    if len(log.ranks) > 1:
        said.append(f"{len(log.ranks)} ranks,")
    for key in ("total_epochs", "total_steps"):
        if header.get(key) is not None:
            said.append(f"{key} {header[key]},")
    metadata = header.get("metadata")
    if isinstance(metadata, Mapping):
        said += [f"{key} {_plain(value)}," for key, value in metadata.items()]
    return " ".join(said).rstrip(",:")


def _time(seconds: object) -> str | None:
    if not isinstance(seconds, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):
        return None


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _tables(rows: Sequence[Summary]) -> Iterable[tuple[list[str], list[list[str]]]]:
    losses = [each for each in rows if each.entry.kind == "loss"]
    headings = ["loss", "last", "epoch mean", "lowest", "highest", "weight", "records", "step"]
    yield headings, [[*_values(each), _weight(each), *_counts(each)] for each in losses]
    components = [each for each in rows if each.entry.kind == "component"]
    headings = ["component", *headings[1:5], *headings[6:]]
    yield headings, [[*_values(each), *_counts(each)] for each in components]
    metrics = [each for each in rows if each.entry.kind == "metric"]
    headings = ["metric", *headings[1:]]
    yield headings, [[*_values(each), *_counts(each)] for each in metrics]
    yield _gradients([each for each in rows if each.entry.kind == "gradient"])


def _values(each: Summary) -> list[str]:
    # Of one record there is no more to say.
    lowest, highest = (
        extreme.value if extreme and each.records > 1 else None for extreme in (each.lowest, each.highest)
    )
    mean = each.epoch_mean if each.records > 1 else None
    return [each.entry.name, *map(short, (each.last, mean, lowest, highest))]


def _weight(each: Summary) -> str:
    first, last = short(each.first_weight), short(each.weight)
    return last if first == last else f"{first} to {last}"


def _counts(each: Summary) -> list[str]:
    return [f"{each.records:,}", f"{each.last_step:,}"]


def _gradients(rows: Sequence[Summary]) -> tuple[list[str], list[list[str]]]:
    """Return a row for each loss whose gradients were recorded, with the newest of each kind."""
    kinds = ("grad_norm", "grad_share", "grad_cosine")
    newest: dict[str, dict[str, Summary]] = {}
    for each in rows:
        name = f"{each.entry.split}/{each.entry.of}" if each.entry.split else each.entry.of
        newest.setdefault(name, {})[each.entry.base.rpartition("@")[2]] = each
    table = []
    for name, found in newest.items():
        values = [short(found[kind].last) if kind in found else "" for kind in kinds]
        table.append([name, *values, f"{max(each.last_step for each in found.values()):,}"])
    return ["gradient of", "norm", "share", "cosine", "step"], table


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


def _extreme(extreme: Extreme | None) -> dict[str, Any] | None:
    return None if extreme is None else {key: as_json(value) for key, value in extreme._asdict().items()}
