"""The objective of a run, as TensorBoard shows it: a text, and columns of its table of runs."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from nectargan_core import Objective

# What a table has room for; all else stands in the manifest below it.
_COLUMNS = ("weight", "schedule", "tags", "inputs", "function")


def markdown(objective: Objective) -> str:
    r"""Return an objective as Markdown: its name, a table of its losses, and all that its manifest says, as JSON.

    Example:
        >>> from nectargan_core import LossManager
        >>> manager = LossManager()
        >>> manager.register_loss_fn("G_L1", abs, loss_weight=100.0, tags=["G"])
        >>> print(markdown(manager.manifest()).split("### Manifest")[0].strip())
        **no formula**
        <BLANKLINE>
        | loss | weight | tags | inputs | function |
        |---|---|---|---|---|
        | G\_L1 | 100 | G | y\_fake, y | builtins:abs |
    """
    manifest = objective.to_dict()
    losses: Mapping[str, Mapping[str, Any]] = manifest.get("losses", {})
    kept = [column for column in _COLUMNS if any(loss.get(column) for loss in losses.values())]
    rows = [["loss", *kept], ["---"] * (1 + len(kept))]
    rows += [
        [_escaped(each) for each in (name, *(_cell(loss.get(column)) for column in kept))]
        for name, loss in losses.items()
    ]
    table = "\n".join(
        f"| {' | '.join(row)} |" if index != 1 else f"|{'|'.join(row)}|" for index, row in enumerate(rows)
    )
    # No line of JSON begins with a backtick, so that none ends the block.
    manifest_text = json.dumps(manifest, indent=2, ensure_ascii=False)
    name = _escaped(objective.name or "no formula")
    return f"**{name}**\n\n{table}\n\n### Manifest\n\n```json\n{manifest_text}\n```\n"


def hyperparameters(objective: Objective) -> dict[str, float | str]:
    """Return what is worth a column where runs are compared: the formula, and the weight that each loss begins with.

    Example:
        >>> from nectargan_core import LossManager
        >>> manager = LossManager(total_epochs=20)
        >>> manager.register_loss_fn("G_L1", abs, loss_weight=100.0)
        >>> hyperparameters(manager.manifest())
        {'total_epochs': 20.0, 'weight/G_L1': 100.0}
    """
    found: dict[str, float | str] = {}
    if objective.name is not None:
        found["objective"] = objective.name
    for name in ("total_epochs", "total_steps"):
        length = getattr(objective, name)
        if length is not None:
            found[name] = float(length)
    for name, loss in objective.losses.items():
        if loss.weight is not None:
            found[f"weight/{name}"] = float(loss.weight)
    return found


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_cell(each)}" for name, each in value.items())
    if isinstance(value, Iterable):
        return ", ".join(map(_cell, value))
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
