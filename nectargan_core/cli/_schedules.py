"""The command `nectargan schedules plot`: draws a schedule as a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import click

from nectargan_core.errors import NectarganError


@click.group()
def schedules() -> None:
    """Look at schedules before they run."""


@schedules.command("plot")
@click.argument("name")
@click.option(
    "--unit",
    type=click.Choice(["epoch", "step", "fraction"]),
    default="epoch",
    help="What it counts; fraction: of the run, which is drawn from 0 to 1.  [epoch]",
)
@click.option("--start", type=float, help="Epoch (or step, or fraction) at which it begins to change.  [0]")
@click.option("--end", type=float, help="Epoch (or step, or fraction) at which it has changed.  [none]")
@click.option("--initial", "initial_value", type=float, help="Value before.  [1]")
@click.option("--target", "target_value", type=float, help="Value after.  [1]")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Parameter of the curve, in JSON.")
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Up to which epoch (or step).  [a quarter beyond the end, or 100]"
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The picture.  [NAME.png]")
def plot_schedule(
    name: str,
    unit: Literal["epoch", "step", "fraction"],
    params: Sequence[str],
    epochs: int | None,
    out: Path | None,
    **ends: float | None,
) -> None:
    """Draw the schedule NAME as a picture, such as: cosine --start 100 --end 200 --initial 10 --target 0."""
    # Imported here, so that `nectargan --help` and the other commands start without them.
    from pydantic import ValidationError

    from nectargan_core.schedules import Schedule, plot, reasons

    given: Any = {key: value for key, value in ends.items() if value is not None}
    try:
        schedule = Schedule(name, unit=unit, params=dict(map(read_param, params)), **given)
    except ValidationError as error:
        raise click.UsageError(reasons(error)) from error
    if unit == "fraction":
        if epochs is not None:
            raise click.UsageError("a schedule with --unit fraction is drawn from 0 to 1; leave --epochs out")
        epochs = 1
    elif epochs is None:
        last = schedule.end_epoch
        epochs = (
            max(1, math.ceil(1.25 * last)) if last is not None else max(100, math.ceil(1.25 * schedule.start_epoch))
        )
    path = out or Path(f"{name.replace('/', '-')}.png")
    try:
        plot(schedule, epochs, path)
    except (OSError, ValueError) as error:
        if isinstance(error, NectarganError):
            raise
        raise click.ClickException(f"cannot write {path}: {error}") from error
    click.echo(path)


def read_param(text: str) -> tuple[str, Any]:
    """Return name and value of what an option `--param NAME=VALUE` is given; a value that is no JSON is text.

    Raises:
        click.UsageError: If it has no `=`.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--param takes NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
