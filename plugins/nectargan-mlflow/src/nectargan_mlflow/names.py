"""Names and values as MLflow takes them: of metrics, and of params."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

_LONGEST_NAME = 250
_LONGEST_VALUE = 500


def metric_name(tag: str) -> str:
    """Return the name of the metric of a curve.

    MLflow takes letters, digits, `_`, `-`, `.`, blanks and `/`, with something between two `/` that is no path to
    elsewhere, 250 characters in all. Another character is written as the hexadecimal digits of its number between `_x`
    and `_`; of a longer name a checksum stands for the end.

    Example:
        >>> metric_name("loss/val/G_L1"), metric_name("loss/G(1)")
        ('loss/val/G_L1', 'loss/G_x28_1_x29_')
    """
    name = re.sub(r"[^\w. /-]", _escaped, tag)
    name = re.sub(r"(?<=/)\.+(?=/|$)", lambda dots: _escaped(dots) * len(dots[0]), name)
    if len(name) <= _LONGEST_NAME:
        return name
    checksum = hashlib.sha256(tag.encode()).hexdigest()[:16]
    return f"{name[: _LONGEST_NAME - 17]}-{checksum}"


def params(manifest: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return what is worth a column where runs are compared, of a manifest: the formula, and how each loss is weighted.

    Values have 500 characters at most, which every server takes.

    Example:
        >>> loss = {"weight": 5.0, "schedule": {"schedule": "linear", "end_epoch": 9}, "function": "torch.nn:L1Loss"}
        >>> for name, value in params({"terms": [{"formula": "5*l1"}], "losses": {"G_L1": loss}}).items():
        ...     print(name, "=", value)
        nectargan/objective = 5*l1
        nectargan/weight/G_L1 = 5.0
        nectargan/schedule/G_L1 = linear, end_epoch=9
    """
    formulas = [str(term["formula"]) for term in manifest.get("terms", ()) if "formula" in term]
    found = {"objective": " + ".join(formulas)} if formulas else {}
    found |= {key: str(manifest[key]) for key in ("total_epochs", "total_steps") if manifest.get(key) is not None}
    for name, loss in manifest.get("losses", {}).items():
        for key in ("weight", "schedule"):
            if loss.get(key) is not None:
                found[f"{key}/{name}"] = _written(loss[key])
    return {metric_name(f"{prefix}nectargan/{key}"): value[:_LONGEST_VALUE] for key, value in found.items()}


def _written(value: object) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    rest = [f"{key}={each if isinstance(each, str) else json.dumps(each)}" for key, each in value.items()]
    own = [str(value["schedule"])] if "schedule" in value else []
    return ", ".join([*own, *(each for each in rest if not each.startswith(("schedule=", "left_out=")))])


def _escaped(match: re.Match[str]) -> str:
    return f"_x{ord(match[0][0]):x}_"
