"""What there is to say of a log, in lines and tables: for a terminal, and for a notebook."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

from nectargan_core._messages import short
from nectargan_core._printable import printable
from nectargan_core.log._summary import Summary, summaries

if TYPE_CHECKING:
    from nectargan_core.log._reader import LossLog


def as_html(log: LossLog) -> str:
    """Return what a notebook shows of a log: what its headers say, and the tables of what it has recorded."""
    rows = summaries(log)
    parts = [f"<p><b>{_safe(about(str(log.header.get('experiment') or 'loss log'), log))}</b></p>"]
    parts += [_table(headings, table) for headings, table in tables(rows) if table]
    parts.append(f"<p>{_safe(nonfinite(rows))}</p>" if rows else "<p>It has no records yet.</p>")
    return "\n".join(part for part in parts if part != "<p></p>")


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    body = "".join(_row("td", row) for row in rows)
    return f"<table><thead>{_row('th', headings)}</thead><tbody>{body}</tbody></table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    # Numbers stand at the right of their column, as notebooks have it, and names at the left.
    name, *numbers = map(_safe, cells)
    rest = "".join(f"<{tag}>{number}</{tag}>" for number in numbers)
    return f'<tr><{tag} style="text-align:left">{name}</{tag}>{rest}</tr>'


def _safe(text: str) -> str:
    return escape(printable(text))


def nonfinite(rows: Iterable[Summary]) -> str:
    """Return a line that names what has records that are nan or infinite; empty where nothing has."""
    counted = (each for each in rows if each.nonfinite and not each.entry.may_be_nan)
    bad = [f"{each.entry.title} {each.nonfinite:,} of {each.records:,}" for each in counted]
    return f"nan or infinite: {', '.join(bad)}" if bad else ""


def about(label: str, log: LossLog) -> str:
    """Return what the headers say of a run, in a line that begins with a label."""
    header = log.header
    said = [str(header["objective"])] if header.get("objective") else []
    if (started := time_of(header.get("started"))) is not None:
        said.append(f"started {started}")
    if log.duration is not None:
        said.append(f"took {span_of(log.duration)}")
    if (resumed := len(log.headers) - 1) > 0:
        said.append("resumed once" if resumed == 1 else f"resumed {resumed} times")
    if of_ranks := ranks_of(log):
        said.append(of_ranks)
    said += [f"{key} {header[key]}" for key in ("total_epochs", "total_steps") if header.get(key) is not None]
    metadata = header.get("metadata")
    if isinstance(metadata, Mapping):
        said += [f"{key} {_plain(value)}" for key, value in metadata.items()]
    return f"{label}: {', '.join(said)}" if said else label


def ranks_of(log: LossLog) -> str:
    """Return which ranks a log is of, such as `8 of 16 ranks` where others are elsewhere; empty for a run of one."""
    sizes = [size for header in log.headers if isinstance(size := header.get("world_size"), int)]
    here, all_of_them = len(log.ranks), max(sizes, default=0)
    if here >= all_of_them:
        return f"{here} ranks" if here > 1 else ""
    return f"{here} of {all_of_them} ranks" if here > 1 else f"rank {log.ranks[0]} of {all_of_them}"


def span_of(seconds: float) -> str:
    """Return how long something took as text.

    Example:
        >>> span_of(0.25), span_of(72), span_of(7320)
        ('0.25 s', '1 min 12 s', '2 h 2 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.3g} s"


def time_of(seconds: object) -> str | None:
    """Return a time as text, such as `2026-11-26 18:50`; None of what is no time, as a header may have it.

    Args:
        seconds: Seconds since 1970.
    """
    if not isinstance(seconds, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):
        return None


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def tables(rows: Sequence[Summary]) -> Iterable[tuple[list[str], list[list[str]]]]:
    """Yield headings and rows of the tables of losses, components, scalars and gradients; some may have no row."""
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
        newest.setdefault(name, {})[each.entry.suffix] = each
    table = []
    for name, found in newest.items():
        values = [short(found[kind].last) if kind in found else "" for kind in kinds]
        table.append([name, *values, f"{max(each.last_step for each in found.values()):,}"])
    return ["gradient of", "norm", "share", "cosine", "step"], table
