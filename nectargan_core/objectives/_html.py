"""How an objective is shown in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from nectargan_core._printable import printable
from nectargan_core.objectives._differences import (
    arguments_of,
    inputs_of,
    schedule_of,
    value_of,
    weight_of,
    weighting_of,
)

if TYPE_CHECKING:
    from nectargan_core.objectives._objective import ExtraLoss, Objective, ObjectiveLoss


def as_html(objective: Objective) -> str:
    """Return an objective as tables: its losses, its weightings, and where they come from."""
    parts = [f"<p><b>{_safe(objective.name or 'no formula')}</b></p>"]
    rows = [
        _row(
            name,
            loss,
            "" if loss.enabled else "no",
            arguments_of(loss.arguments, loss.unknown),
            " ".join(filter(None, (loss.provider, objective.providers.get(loss.provider or "")))),
        )
        for name, loss in objective.losses.items()
    ]
    # In a record the extra losses are among the others.
    extras = [extra for extra in objective.extra if not objective.is_record]
    rows += [_row(extra.name, extra, "", arguments_of(extra.arguments), "") for extra in extras]
    headings = ["loss", "weight", "schedule", "enabled", "tags", "inputs", "function", "arguments", "from"]
    parts.append(_table(headings, rows))
    weightings = [[key, weighting_of(each), ", ".join(each.losses or [])] for key, each in objective.weightings.items()]
    parts.append(_table(["of", "weighting", "losses"], weightings))
    given = [objective.options, *(term.options for term in objective.terms)]
    options = [
        [name, option, value_of(value)]
        for each in given
        for name, values in each.items()
        for option, value in values.items()
    ]
    parts.append(_table(["term", "option", "value"], options))
    lengths = {"total_epochs": objective.total_epochs, "total_steps": objective.total_steps}
    said = [f"{name} {value:g}" for name, value in lengths.items() if value is not None]
    said += [f"{name} {version}" for name, version in {**objective.versions, **objective.providers}.items()]
    if said:
        parts.append(f"<p>{_safe(', '.join(said))}</p>")
    if objective.fingerprint:
        parts.append(f"<p>fingerprint <code>{_safe(objective.fingerprint)}</code></p>")
    return "\n".join(filter(None, parts))


def _row(name: str, loss: ObjectiveLoss | ExtraLoss, enabled: str, arguments: str, provider: str) -> list[str]:
    return [
        name,
        weight_of(loss) if loss.weight is not None else "",
        schedule_of(loss) if loss.schedule is not None else "",
        enabled,
        ", ".join(loss.tags),
        inputs_of(loss) if loss.inputs else "",
        loss.function or "",
        arguments,
        provider,
    ]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table without the columns that are empty in each row; empty text of no rows."""
    filled = list(rows)
    kept = [index for index in range(len(headings)) if any(row[index] for row in filled)]
    if not kept:
        return ""
    # A notebook aligns numbers, to the right.
    left = ' style="text-align:left"'
    head = "".join(f"<th{left}>{_safe(headings[index])}</th>" for index in kept)
    body = "".join(f"<tr>{''.join(f'<td{left}>{_safe(row[index])}</td>' for index in kept)}</tr>" for row in filled)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _safe(text: str) -> str:
    return escape(printable(text))
