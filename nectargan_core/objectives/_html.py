"""How an objective is shown in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from nectargan_core._printable import printable
from nectargan_core.objectives._differences import inputs_of, schedule_of, weight_of

if TYPE_CHECKING:
    from nectargan_core.objectives._objective import Objective


def as_html(objective: Objective) -> str:
    """Return an objective as tables: its losses, its weightings, and where they come from."""
    parts = [f"<p><b>{_safe(objective.name or 'no formula')}</b></p>"]
    rows = [
        [
            name,
            weight_of(loss) if loss.weight is not None else "",
            "" if schedule_of(loss) == "none" else schedule_of(loss),
            ", ".join(loss.tags),
            inputs_of(loss) if loss.inputs is not None else "",
            loss.function or "",
            " ".join(filter(None, (loss.provider, objective.providers.get(loss.provider or "")))),
        ]
        for name, loss in objective.losses.items()
    ]
    parts.append(_table(["loss", "weight", "schedule", "tags", "inputs", "function", "from"], rows))
    weightings = [
        [each.weighting, ", ".join(each.losses or [key]), each.wrt or ""] for key, each in objective.weightings.items()
    ]
    parts.append(_table(["weighting", "losses", "wrt"], weightings))
    versions = {**objective.versions, **objective.providers}
    if versions:
        parts.append(f"<p>{_safe(', '.join(f'{name} {version}' for name, version in versions.items()))}</p>")
    if objective.fingerprint:
        parts.append(f"<p>fingerprint <code>{_safe(objective.fingerprint)}</code></p>")
    return "\n".join(filter(None, parts))


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table without the columns that are empty in each row; empty text of no rows."""
    filled = list(rows)
    kept = [index for index in range(len(headings)) if any(row[index] for row in filled)]
    if not kept:
        return ""
    head = "".join(f"<th>{_safe(headings[index])}</th>" for index in kept)
    body = "".join(f"<tr>{''.join(f'<td>{_safe(row[index])}</td>' for index in kept)}</tr>" for row in filled)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _safe(text: str) -> str:
    return escape(printable(text))
