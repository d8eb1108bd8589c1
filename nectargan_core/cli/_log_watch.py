"""The command `nectargan log watch`: follows a running log, as a view of the terminal, as lines, or as JSON."""

from __future__ import annotations

import errno
import importlib.util
import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nectargan_core._messages import short
from nectargan_core._printable import printable
from nectargan_core.cli._log_runs import query_option
from nectargan_core.cli._numbers import as_json
from nectargan_core.cli._table import print_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from nectargan_core.log import Entry, Follower

# A run flushes every 30 seconds by default, and looking costs nothing.
_EVERY_S = 0.5
_WIDTH = 100
_BARS = "▁▂▃▄▅▆▇█"
# Headings, the line above them, blank lines, and the line below.
_OTHER_LINES = 6
# What there is no room for is rather a gradient than a loss.
_KINDS = ["loss", "metric", "component", "gradient"]


@click.command()
@click.argument("run")
@query_option
@click.option("--json", "in_json", is_flag=True, help="Print a JSON object in a line each time that the log has grown.")
def watch(run: str, query: Sequence[str], in_json: bool) -> None:
    """Follow the log of RUN, which is the directory of a run, or its loss log, until Ctrl-C.

    A log that is not there yet, or is removed, is waited for. In a pipe, and in a terminal that cannot move its cursor,
    a line is printed each time that the log has grown. Of a run with several ranks the lowest that has a log is
    followed. The exit status is 130 after Ctrl-C, 143 after SIGTERM, and 1 if what is there is no log.
    """
    # Imported here, since it imports numpy and pydantic.
    from nectargan_core.log import Follower, log_in

    path = Path(run)
    follower = Follower(path)
    is_view = not in_json and _can_redraw() and importlib.util.find_spec("rich") is not None
    if is_view:
        _view(follower, path, query)
        return
    if not follower.poll():
        print_text(printable(f"Waiting for {log_in(path)}"), err=True)
        _await(follower)
    while True:
        if follower.is_gone:
            print_text(printable(f"{log_in(path)} was removed; waiting for another"), err=True)
        elif follower.step >= 0:
            asked = _asked(follower, path, query)
            if not query and not in_json:
                asked = [entry for entry in asked if entry.kind in ("loss", "metric")]
            click.echo(_json(follower, asked) if in_json else _line(follower, asked))
        _await(follower)


def _can_redraw() -> bool:
    """Whether a view can be drawn again at its place, which a terminal without codes for that would never show."""
    return sys.stdout.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def _await(follower: Follower) -> None:
    """Return when the log has grown; end the program when nobody reads what it prints any more, as `head` does."""
    while not follower.poll():
        if _is_closed():
            raise BrokenPipeError(errno.EPIPE, "nobody reads what is printed")
        time.sleep(_EVERY_S)


def _is_closed() -> bool:
    if not hasattr(select, "poll"):  # where there is none, it is seen when something is printed
        return False
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except OSError:  # no file is behind it
        return False


def _asked(follower: Follower, path: Path, query: Sequence[str]) -> list[Entry]:
    """Return what of the query there is by now: a validation, for one, comes later."""
    from nectargan_core.errors import UnknownLossError
    from nectargan_core.log import matching

    label = str(path)
    every = {label: [entry for entry in follower.entries() if follower.series[entry.name].records]}
    every[label].sort(key=lambda entry: _KINDS.index(entry.kind))
    if not query:
        return every[label]
    found: list[Entry] = []
    for each in query:
        try:
            found += matching(every, [each])[label]
        except UnknownLossError:
            continue
    return list({entry.name: entry for entry in found}.values())


# In a pipe


def _line(follower: Follower, asked: Sequence[Entry]) -> str:
    values = [f"{printable(entry.title)} {short(follower.series[entry.name].last)}" for entry in asked]
    return "  ".join([*_where(follower), *values])


def _json(follower: Follower, asked: Sequence[Entry]) -> str:
    values = {
        entry.name: {
            "step": (newest := follower.series[entry.name]).step,
            "last": as_json(newest.last),
            "epoch_mean": as_json(newest.epoch_mean),
            "weight": as_json(newest.weight),
            "records": newest.records,
        }
        for entry in asked
    }
    said = {
        "step": follower.step,
        "epoch": as_json(follower.epoch),
        "steps_per_second": follower.speed,
        "written": follower.written,
        "values": values,
    }
    return json.dumps(said, allow_nan=False)


def _where(follower: Follower) -> list[str]:
    header = follower.headers[-1] if follower.headers else {}
    steps, epochs = header.get("total_steps"), header.get("total_epochs")
    said = [f"step {follower.step:,}" + (f" of {steps:,}" if isinstance(steps, int) else "")]
    said.append(f"epoch {follower.epoch:.6g}" + (f" of {epochs:g}" if isinstance(epochs, (int, float)) else ""))
    if follower.speed is not None:
        said.append(f"{follower.speed:.3g} steps/s")
    return said


# In a terminal


def _view(follower: Follower, path: Path, query: Sequence[str]) -> None:
    from rich.console import Console

    console = Console()
    # So that the view ends as after Ctrl-C, and shows the cursor again that it has hidden.
    former = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        _redraw(follower, path, query, console)
    finally:
        signal.signal(signal.SIGTERM, former)


def _redraw(follower: Follower, path: Path, query: Sequence[str], console: Console) -> None:
    from rich.live import Live

    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            follower.poll()
            live.update(_table(follower, path, query, min(_WIDTH, console.width), console.height), refresh=True)
            time.sleep(_EVERY_S)


def _table(follower: Follower, path: Path, query: Sequence[str], width: int, height: int) -> RenderableType:
    """Return what the terminal shows: the run, a row for each name, and what there was no room for."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from nectargan_core.log import log_in

    if follower.step < 0:
        what = "records in" if follower.written is not None else ""
        return Text(printable(" ".join(filter(None, ("Waiting for", what, str(log_in(path)))))), style="dim")
    asked = _asked(follower, path, query)
    shown = asked[: max(1, height - _OTHER_LINES)]
    has_trend = _can_print(_BARS)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    names = [printable(entry.title) for entry in shown]
    # What the numbers and the trend leave.
    room = max(12, width - 4 * 11 - (18 if has_trend else 0))
    table.add_column("NAME", no_wrap=True, overflow="ellipsis", max_width=room)
    for heading in ("LAST", "EPOCH MEAN", "WEIGHT"):
        table.add_column(heading, no_wrap=True, justify="right", min_width=9)
    if has_trend:
        table.add_column("TREND", no_wrap=True)
    for entry, name in zip(shown, names, strict=True):
        newest = follower.series[entry.name]
        weight = short(newest.weight) if entry.kind == "loss" else ""
        cells = [Text(name), _number(newest.last), _number(newest.epoch_mean), Text(weight)]
        table.add_row(*cells, *([Text(sparkline(newest.trend, 16), style="cyan")] if has_trend else []))
    about = Text("  ".join([printable(_name(follower, path)), *_where(follower), _age(follower)]), style="bold")
    about.truncate(width, overflow="ellipsis")
    parts: list[RenderableType] = [about, "", table]
    if len(shown) < len(asked):
        parts += ["", Text(f"{len(asked) - len(shown)} more, for which there is no room; --query chooses", style="dim")]
    elif not asked:
        parts += ["", Text(f"nothing of {', '.join(query)} yet", style="dim")]
    return Group(*parts)


def _name(follower: Follower, path: Path) -> str:
    return str((follower.headers[0].get("experiment") if follower.headers else None) or path.resolve().name)


def _age(follower: Follower) -> str:
    if follower.is_gone:
        return "removed; waiting for another"
    seconds = max(0, int(time.time() - (follower.written or 0.0)))
    if seconds < 90:
        return f"written {seconds} s ago"
    if seconds < 5400:
        return f"written {seconds // 60} min ago"
    return f"written {seconds // 3600} h ago" if seconds < 172_800 else f"written {seconds // 86_400} days ago"


def _number(value: float) -> RenderableType:
    from rich.text import Text

    return Text(short(value), style="" if math.isfinite(value) else "bold red")


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def sparkline(values: Sequence[float], width: int) -> str:
    """Return values as bars of a height from the lowest to the highest; a blank stands for nan.

    Args:
        values: The values. Of more than `width`, neighbours are averaged.
        width: How many bars there are at most.

    Example:
        >>> sparkline([1.0, 2.0, float("nan"), 8.0], 4)
        '▁▂ █'
    """
    each = -(-len(values) // width) if values else 1
    parts = [values[start : start + each] for start in range(0, len(values), each)]
    means = [sum(part) / len(part) for part in parts]
    finite = [value for value in means if math.isfinite(value)]
    if not finite:
        return " " * len(means)
    low, high = min(finite), max(finite)
    # Halves, since the difference of the largest floats is infinite.
    extent = high / 2 - low / 2
    heights = (
        len(_BARS) // 2 if not extent else round((value / 2 - low / 2) / extent * (len(_BARS) - 1)) for value in finite
    )
    return "".join(_BARS[next(heights)] if math.isfinite(value) else " " for value in means)
