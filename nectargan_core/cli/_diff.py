"""The command `nectargan diff`: what differs between two objectives, as a table or as JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from nectargan_core._printable import printable
from nectargan_core.cli._describe import read_record
from nectargan_core.cli._table import fits, print_note, print_table
from nectargan_core.errors import NectarganError

if TYPE_CHECKING:
    from nectargan_core import Objective

_DIFFERENT = 1
# Enough of a fingerprint to tell it from another one.
_DIGITS = 12
# What says where the numbers come from, and not what they are.
_OF_ORIGIN = {"provider", "version", "order"}


class _Trouble(click.ClickException):
    """Ends the command with another status than a difference does."""

    exit_code = 2


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects, one for each difference.")
def diff(a: str, b: str, as_json: bool) -> None:
    """Show what differs between the objectives A and B: losses, weights, schedules, options, inputs, versions and more.

    Each of them is what `nectargan describe` takes: a formula, a file of an objective, the directory of a run, or a
    loss log.

    The exit status is 0 if nothing differs, 1 if something does, and 2 if one of them cannot be read or built.
    """
    try:
        before, after = read_record(a), read_record(b)
    except NectarganError as error:
        raise _Trouble(str(error)) from error
    found = before.differences(after)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(difference) for difference in found], indent=2))
    else:
        for letter, text, record in (("A", a, before), ("B", b, after)):
            print_note(f"{letter}: {_called(text, record)} (fingerprint {str(record.fingerprint)[:_DIGITS]})")
        click.echo()
        if found:
            _print_table([[printable(cell) for cell in (e.kind, e.name, e.before, e.after)] for e in found])
        _print_sum({each.kind for each in found}, before, after)
    if found:
        sys.exit(_DIFFERENT)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    headings = ["what", "of", "A", "B"]
    if fits(headings, rows):
        print_table(headings, rows)
    else:
        stacked = [[kind, name, f"A: {before}\nB: {after}"] for kind, name, before, after in rows]
        print_table(["what", "of", "A, below it B"], stacked)


def _called(text: str, record: Objective) -> str:
    name = record.name
    return text if name is None or name.split() == text.split() else f"{text}: {name}"


def _print_sum(kinds: Iterable[str], before: Objective, after: Objective) -> None:
    if not kinds:
        click.echo("Nothing differs.")
    elif _OF_ORIGIN.issuperset(kinds) and before.fingerprint == after.fingerprint:
        click.echo()
        print_note("What affects numbers is the same: the fingerprints are.")
