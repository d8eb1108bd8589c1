"""The program itself: its commands, and a short message for every `NectarganError`."""

from __future__ import annotations

import sys
from typing import Any

import click

from nectargan_core.cli._check import check
from nectargan_core.cli._describe import describe
from nectargan_core.cli._diff import diff
from nectargan_core.cli._log import log
from nectargan_core.cli._new import new
from nectargan_core.cli._plugins import plugins
from nectargan_core.cli._schedules import schedules
from nectargan_core.cli._specs import specs
from nectargan_core.errors import NectarganError

_INTERRUPTED = 130


class _Program(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NectarganError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            # As a shell says it of a program that an interrupt has ended.
            click.echo(err=True)
            sys.exit(_INTERRUPTED)


@click.group(cls=_Program)
@click.version_option(package_name="nectargan-core")
def main() -> None:
    """Look at what is installed, at objectives and at what runs had, and begin a plugin of your own."""


main.add_command(check)
main.add_command(describe)
main.add_command(diff)
main.add_command(log)
main.add_command(new)
main.add_command(plugins)
main.add_command(schedules)
main.add_command(specs)
