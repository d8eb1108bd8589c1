"""The command `nectargan specs`: what installed specs offer, as tables, as Markdown or as JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nectargan_core.cli._markdown import code, markdown_table, prose
from nectargan_core.cli._table import filled, print_note, print_table, print_text

if TYPE_CHECKING:
    from nectargan_core.objectives import (
        LossDescription,
        OptionDescription,
        SpecDescription,
        VariantDescription,
        WeightingDescription,
    )


_PROSE = {"range", "weight", "schedule", "source", "meaning", "doc"}
"""The headings of the columns that are prose in Markdown; the others are code."""

_ALL = "all"


class _Table(NamedTuple):
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an object, or a list of them without NAME.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the tables in Markdown.")
def specs(name: str | None, as_json: bool, as_markdown: bool) -> None:
    """Show what the spec NAME builds: its losses, weightings and options; without NAME, list all specs.

    NAME is such as vgg, acme-vgg/vgg or, for one variant, vgg:style. Specs are built with an empty configuration on the
    meta device, which takes neither a GPU nor files with weights.
    """
    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown exclude each other")
    # Imported here, since it imports torch, and so do the specs.
    from nectargan_core.objectives import describe_spec, describe_specs

    # What a plugin prints does not belong to the tables.
    with contextlib.redirect_stdout(sys.stderr):
        described = describe_specs() if name is None else [describe_spec(name)]
    if name is not None and all(variant.problem for variant in described[0].variants):
        raise click.ClickException("; ".join(described[0].problems))
    if as_json:
        objects = [dataclasses.asdict(spec) for spec in described]
        click.echo(json.dumps(objects if name is None else objects[0], indent=2))
    elif name is None:
        _print_list(described, as_markdown)
    else:
        _print_spec(described[0], as_markdown)
    if name is not None and described[0].problems:
        sys.exit(1)


def _print_list(specs: Sequence[SpecDescription], as_markdown: bool) -> None:
    from nectargan_core.objectives import first_sentence

    if not specs:
        print_note("No spec is installed. `nectargan plugins` shows what is.")
        return
    rows = []
    for spec in specs:
        variants = ", ".join(variant.name for variant in spec.variants if variant.name is not None)
        name = f"{spec.distribution}/{spec.name}" if spec.state == "ambiguous" else spec.name
        rows.append([name, spec.release, variants, first_sentence(spec.summary)])
    _print(_Table(["name", "distribution", "variants", "doc"], rows), as_markdown)
    for spec in specs:
        for problem in spec.problems:
            click.echo()
            print_note(f"{spec.name} ({spec.distribution}): {problem}")


def _print_spec(spec: SpecDescription, as_markdown: bool) -> None:
    if not as_markdown:
        print_note(f"{spec.name} ({spec.release}, {spec.target})")
        if spec.summary:
            print_note(spec.summary)
        if spec.default_variant is not None and len(spec.variants) > 1:
            print_note(f"{spec.name!r} stands for '{spec.name}:{spec.default_variant}'")
        click.echo()
    tables = [
        table for table in (_losses(spec), _definitions(spec), _weightings(spec), _options(spec.options)) if table.rows
    ]
    for number, table in enumerate(tables):
        if number:
            click.echo()
        _print(table, as_markdown)
    for variant in spec.variants:
        if variant.problem:
            click.echo()
            print_note(f"{_written(spec, variant)}: {variant.problem}")
        elif not variant.losses:
            print_note(f"{_written(spec, variant)} has no losses")


def _written(spec: SpecDescription, variant: VariantDescription) -> str:
    return spec.name if variant.name is None else f"{spec.name}:{variant.name}"


def _losses(spec: SpecDescription) -> _Table:
    rows = _merged(spec, [[_loss_row(loss) for loss in variant.losses] for variant in spec.variants])
    return _without_empty(["loss", "tags", "inputs", "range", "weight", "config key", "schedule", "variants"], rows)


def _loss_row(loss: LossDescription) -> list[str]:
    inputs = loss.inputs
    reads = [f"{name}={read}" for name, read in inputs.items()] if isinstance(inputs, dict) else inputs
    schedule = "" if loss.schedule is None else _schedule(loss.schedule)
    ranges = ", ".join(f"`{name}`: {values}" for name, values in loss.ranges.items())
    weight = f"{loss.weight:.12g}"
    return [loss.name, ", ".join(loss.tags), ", ".join(reads), ranges, weight, loss.weight_key or "", schedule]


def _schedule(schedule: dict[str, Any]) -> str:
    """Say in one line what the fields of a schedule say."""
    unit, start, end = schedule.get("unit", "epoch"), schedule.get("start_epoch", 0), schedule.get("end_epoch")
    ends = (schedule["initial_value"], schedule["target_value"])  # which the loss has filled in
    initial, target = (value * schedule.get("factor", 1.0) for value in ends)
    when = f"{start:g} to {end:g}" if end is not None else f"{start:g} on"
    params = "".join(f", {name}={json.dumps(value)}" for name, value in schedule.get("params", {}).items())
    return f"{schedule.get('schedule', 'linear')} from {initial:.12g} to {target:.12g}, {unit} {when}{params}"


def _definitions(spec: SpecDescription) -> _Table:
    said = [[variant.formula, variant.source] for variant in spec.variants]
    rows = _merged(spec, [[row] if any(row) else [] for row in said])
    return _without_empty(["formula", "source", "variants"], rows)


def _weightings(spec: SpecDescription) -> _Table:
    rows = _merged(spec, [[_weighting_row(each) for each in variant.weightings] for variant in spec.variants])
    return _without_empty(["weighting", "of", "losses", "params", "wrt", "every", "variants"], rows)


def _weighting_row(weighting: WeightingDescription) -> list[str]:
    params = ", ".join(f"{name}={json.dumps(value)}" for name, value in weighting.params.items())
    every = "" if weighting.every == 1 else str(weighting.every)
    return [weighting.name, weighting.query, ", ".join(weighting.losses), params, weighting.wrt or "", every]


def _options(options: Sequence[OptionDescription]) -> _Table:
    rows = [[option.name, option.type, option.default, option.meaning] for option in options]
    return _without_empty(["option", "type", "default", "meaning"], rows)


def _merged(spec: SpecDescription, rows: Sequence[Sequence[Sequence[str]]]) -> list[list[str]]:
    """Return the rows of all variants, each once, with the variants that it holds for at its end.

    A row that differs between variants follows the one before it of the same name.
    """
    built = [variant for variant in spec.variants if not variant.problem]
    holds: dict[tuple[str, ...], list[str]] = {}
    for variant, of_variant in zip(spec.variants, rows, strict=True):
        for row in of_variant:
            holds.setdefault(tuple(row), []).append(variant.name or "without")
    order = list(dict.fromkeys(row[0] for row in holds))
    merged = []
    for row, variants in sorted(holds.items(), key=lambda item: order.index(item[0][0])):
        several = _ALL if len(variants) == len(built) else ", ".join(variants)
        merged.append([*row, several if len(spec.variants) > 1 else ""])
    return merged


def _without_empty(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> _Table:
    return _Table(*filled(headings, rows))


def _print(table: _Table, as_markdown: bool) -> None:
    if not as_markdown:
        print_table(table.headings, table.rows)
        return
    forms = [prose if heading in _PROSE else code for heading in table.headings]
    rows = [[cell if cell == _ALL else form(cell) for form, cell in zip(forms, row, strict=True)] for row in table.rows]
    print_text(markdown_table(table.headings, rows))
