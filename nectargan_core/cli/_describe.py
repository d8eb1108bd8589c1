"""The command `nectargan describe`: an objective as it is built, or as a run recorded it, as tables or as JSON."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from typing import TYPE_CHECKING

import click

from nectargan_core.cli._table import filled, print_note, print_table
from nectargan_core.errors import NectarganWarning

if TYPE_CHECKING:
    from nectargan_core import Objective


@click.command()
@click.argument("objective")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as a file of an objective holds it.")
def describe(objective: str, as_json: bool) -> None:
    """Show the losses of OBJECTIVE, with all that affects their numbers, and where they come from.

    OBJECTIVE is a formula, such as "gan:hinge + 100*l1"; a file of an objective, which ends with .toml or .json; or the
    directory of a run, or its loss log, of which the last record is shown. A path that exists is a file; for a formula
    of the same name, write a blank before it.

    What a run has recorded is shown as it is, also where its plugins are not installed. All else is built with an empty
    configuration on the meta device, which takes neither a GPU nor files with weights.
    """
    record = read_record(objective)
    if as_json:
        click.echo(json.dumps(record.to_dict(), indent=2))
    else:
        _print(record)


def read_record(source: str) -> Objective:
    """Return the record of what a command was given; warnings are printed to standard error.

    Raises:
        NectarganError: If there is none.
    """
    # Imported here, since it imports torch, and so do the specs.
    from nectargan_core.objectives import record_from

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NectarganWarning)
        # What a plugin prints is not what this command prints.
        with contextlib.redirect_stdout(sys.stderr):
            record = record_from(source)
    for warning in caught:
        if issubclass(warning.category, NectarganWarning):
            print_note(f"Warning: {warning.message}", err=True)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return record


def _print(record: Objective) -> None:
    print_note(record.name or "no formula")
    if not record.losses:
        print_note("It has no losses.")
    for headings, rows in (
        _losses(record),
        _functions(record),
        _weightings(record),
        _terms(record),
        (["weight file", "SHA-256"], [list(item) for item in record.weight_files.items()]),
    ):
        if rows:
            click.echo()
            print_table(*filled(headings, rows))
    click.echo()
    if record.total_epochs is not None:
        print_note(f"total_epochs {record.total_epochs:g}")
    if record.total_steps is not None:
        print_note(f"total_steps {record.total_steps}")
    print_note(", ".join(f"{name} {version}".strip() for name, version in (record.versions | record.providers).items()))
    print_note(f"fingerprint {record.fingerprint}")


def _losses(record: Objective) -> tuple[list[str], list[list[str]]]:
    from nectargan_core.objectives import inputs_of, schedule_of, weight_of

    rows = [
        [
            name,
            weight_of(loss) if loss.weight is not None else "",
            schedule_of(loss) if loss.schedule is not None else "",
            "" if loss.enabled else "no",
            ", ".join(loss.tags),
            inputs_of(loss) if loss.inputs else "",
            loss.weighting or "",
        ]
        for name, loss in record.losses.items()
    ]
    return ["loss", "weight", "schedule", "enabled", "tags", "inputs", "weighting"], rows


def _functions(record: Objective) -> tuple[list[str], list[list[str]]]:
    from nectargan_core.objectives import arguments_of

    rows = [
        [
            name,
            loss.function or "",
            arguments_of(loss.arguments, loss.unknown),
            "" if loss.version == 1 else str(loss.version),
            " ".join(filter(None, (loss.provider, record.providers.get(loss.provider or "")))),
        ]
        for name, loss in record.losses.items()
    ]
    return ["loss", "function", "arguments", "version of its meaning", "from"], rows


def _weightings(record: Objective) -> tuple[list[str], list[list[str]]]:
    from nectargan_core.objectives import weighting_of

    rows = [
        [key, weighting_of(weighting), ", ".join(weighting.losses or [])]
        for key, weighting in record.weightings.items()
    ]
    return ["of", "weighting", "losses"], rows


def _terms(record: Objective) -> tuple[list[str], list[list[str]]]:
    """Return what was given beside the formulas."""
    from nectargan_core.objectives import value_of

    rows: list[list[str]] = []
    for term in record.terms:
        given: list[tuple[str, str]] = [("prefix", term.prefix)] if term.prefix else []
        given += [(f"rename_inputs.{name}", value_of(to)) for name, to in term.rename_inputs.items()]
        for name, options in term.options.items():
            given += [(f"options.{name}.{option}", value_of(value)) for option, value in options.items()]
        given += [(f"options.{name}", "an object that no file can hold") for name in term.unwritten]
        given += [("without", ", ".join(term.without))] if term.without else []
        rows += [[term.formula or term.function or "", key, value] for key, value in given]
    return ["term", "given with it", "value"], rows
