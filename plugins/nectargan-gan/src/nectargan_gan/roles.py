"""The three roles of an adversarial loss, and the label that each is compared with."""

from __future__ import annotations

from math import isfinite
from typing import Literal

import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor

Role = Literal["generator", "real", "fake"]

# 1 stands for real, 0 for generated; a generator is to be taken for real.
_LABELS = {"generator": 1.0, "real": 1.0, "fake": 0.0}


def check_role(owner: str, role: object) -> None:
    """Raise `ValueError` for what is no role."""
    if role not in _LABELS:
        raise ValueError(f"{owner}: role is one of {', '.join(map(repr, _LABELS))}, not {role!r}")


def own_label(role: Role) -> float:
    """Return the label that a role is compared with where no other is given."""
    return _LABELS[role]


def checked_label(owner: str, label: object) -> float:
    """Return the label that is given in the place of that of a role.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not from 0 to 1.
    """
    if isinstance(label, bool) or not isinstance(label, (int, float)):
        raise TypeError(f"{owner}: label is a number from 0 to 1, got {label!r}")
    if not (isfinite(label) and 0 <= label <= 1):
        raise ValueError(f"{owner}: label is a number from 0 to 1, got {label!r}")
    return float(label)


def shown_label(role: Role, label: float | None) -> str:
    """Return a label as an argument, or nothing where it is that of the role, or there is none."""
    return "" if label is None or label == _LABELS[role] else f", label={label:g}"


def as_target(label: float | Tensor, like: Tensor) -> Tensor:
    """Return a label as a tensor of the shape of predictions; one that is a tensor has it already."""
    return label if isinstance(label, Tensor) else like.new_full((), label).expand_as(like)


def cross_entropy(logits: Tensor, target: float | Tensor) -> Tensor:
    """Return the mean binary cross-entropy between logits and their target, a tensor of the same shape or a number."""
    return F.binary_cross_entropy_with_logits(logits, as_target(target, logits))
