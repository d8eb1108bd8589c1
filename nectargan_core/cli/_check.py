"""The command `nectargan check`: runs the checks for plugin authors on an installed plugin, and prints outcomes."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from nectargan_core import catalog
from nectargan_core._messages import did_you_mean, listed
from nectargan_core._names import read_name
from nectargan_core.catalog import OBSERVERS, SCHEDULES, SPECS, WEIGHTINGS, Plugin
from nectargan_core.cli._schedules import read_param
from nectargan_core.cli._table import print_note, print_table
from nectargan_core.errors import NectarganError, PluginNotFoundError

if TYPE_CHECKING:
    from nectargan_core.testing import Outcome

_GROUPS = (SPECS, SCHEDULES, WEIGHTINGS, OBSERVERS)


@click.command()
@click.argument("name")
@click.option("--skip", "skips", multiple=True, metavar="CHECK=REASON", help="Leave a check out, for a reason.")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="Parameter of the schedule, weighting or observer, or option of the spec, in JSON.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects, one for each plugin.")
def check(name: str, skips: Sequence[str], params: Sequence[str], as_json: bool) -> None:
    """Check the installed plugin NAME, a spec, schedule, weighting or observer, or provider/NAME.

    Where several are of that name, all are checked. The exit status is 1 if a check failed, and 2 if the command cannot
    be understood.
    """
    plugins = _plugins(name)
    given, skip = dict(map(read_param, params)), dict(map(_skip, skips))
    # What a plugin prints is not what this command prints.
    with contextlib.redirect_stdout(sys.stderr):
        examined = [(plugin, _examine(plugin, skip, given, len(plugins) > 1)) for plugin in plugins]
    if as_json:
        click.echo(json.dumps([_as_object(plugin, outcomes) for plugin, outcomes in examined], indent=2))
    else:
        for index, (plugin, outcomes) in enumerate(examined):
            if index:
                click.echo()
            _print(plugin, outcomes)
    if any(outcome.state == "failed" for _, outcomes in examined for outcome in outcomes):
        sys.exit(1)


def _plugins(name: str) -> list[Plugin]:
    """Return the plugin of a name in each group that has one."""
    try:
        term = read_name(name, "plugin")
        found, errors = [], {}
        for group in _GROUPS:
            try:
                found.append(catalog.find(group, term.name, term.provider))
            except PluginNotFoundError as error:
                errors[group] = error
    except NectarganError as error:
        raise click.UsageError(str(error)) from error
    if not found:
        raise click.UsageError(_not_found(name, term.name, errors))
    return found


def _not_found(asked: str, name: str, errors: Mapping[str, PluginNotFoundError]) -> str:
    """Return the error of the catalog that knows most of the name."""
    for says in ("it is offered by", "Did you mean", "pip install"):
        for error in errors.values():
            if says in str(error):
                return str(error)
    names = sorted({entry.plugin.name for entry in catalog.plugins() if entry.plugin.name})
    return (
        f"no spec, schedule, weighting or observer {asked!r} is installed for {sys.executable or 'this interpreter'}; "
        f"installed are {listed(names)}.{did_you_mean(name, names)}"
    )


def _skip(text: str) -> tuple[str, str]:
    name, _, reason = text.partition("=")
    if not name.strip() or not reason.strip():
        raise click.UsageError(f"--skip takes CHECK=REASON, such as --skip ends='it never ends', got {text!r}")
    return name.strip(), reason.strip()


def _examine(plugin: Plugin, skip: Mapping[str, str], given: Mapping[str, Any], is_one_of_many: bool) -> list[Outcome]:
    # Imported here, so that `nectargan --help` and the other commands start without torch.
    from pydantic import ValidationError

    from nectargan_core.schedules import reasons
    from nectargan_core.testing import checks_of, examine

    if is_one_of_many:
        # Each kind has checks of its own; a name that none has is refused as for one plugin.
        others = {name for group in _GROUPS if group != plugin.group for name in checks_of(group)}
        own = checks_of(plugin.group)
        skip = {name: reason for name, reason in skip.items() if name in own or name not in others}
    try:
        if plugin.group == SPECS:
            return examine(plugin, skip=skip, options=given)
        return examine(plugin, skip=skip, params=given)
    except ValidationError as error:
        raise click.UsageError(reasons(error)) from error
    except (NectarganError, ValueError) as error:
        raise click.UsageError(str(error)) from error


def _as_object(plugin: Plugin, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "group": plugin.group,
        "distribution": plugin.dist,
        "version": plugin.version,
        "target": plugin.target,
        "checks": [{"check": each.check, "result": each.state, "message": each.message} for each in outcomes],
    }


def _print(plugin: Plugin, outcomes: Sequence[Outcome]) -> None:
    print_note(plugin.label)
    click.echo()
    # What holds where a check passes is in JSON, and would hide the messages of those that fail.
    rows = [(each.check, each.state, "" if each.state == "passed" else each.message) for each in outcomes]
    print_table(["check", "result", "message"], rows)
    counts = Counter(outcome.state for outcome in outcomes)
    parts = ", ".join(f"{counts[state]} {state}" for state in ("passed", "failed", "skipped"))
    click.echo()
    click.echo(f"{len(outcomes)} checks: {parts}")
