"""Which weighting is to balance which losses, and how that becomes weightings at work."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import torch

from nectargan_core.weightings._bound import BoundWeighting, free_label
from nectargan_core.weightings._weighting import Weighting


class Balance(NamedTuple):
    """What balances which losses.

    Args:
        weighting: The weighting.
        names: The losses.
        query: What they were found by, for the label of the weighting and for errors.
        scaler: The scaler of the run, None for none.
        prefix: What the names begin with, and the spec that brings the weighting does not know.
    """

    weighting: Weighting
    names: tuple[str, ...]
    query: str
    scaler: Any = None
    prefix: str = ""


def bind(
    balances: Iterable[Balance], losses: Collection[str], kept: Sequence[BoundWeighting], device: torch.device | None
) -> list[BoundWeighting]:
    """Make weightings that are ready for work, each with a label of its own.

    Args:
        balances: What balances which losses.
        losses: The names of all losses that there will be.
        kept: The weightings that stay.
        device: Where what they learn is moved to; None to leave it where it is.

    Raises:
        PluginError: If no weighting of a name is installed, or it cannot be used.
        WeightingError: If one does not take its params or its losses, or has no `wrt` and needs one.
        DuplicateLossError: If no label is left for one.
    """
    made: list[BoundWeighting] = []
    for weighting, names, query, scaler, prefix in balances:
        label = free_label(weighting, query, names, {*losses, *(each.label for each in (*kept, *made))})
        bound = BoundWeighting(weighting, names, label, scaler, prefix, query)
        if device is not None and bound.parameters is not None:
            bound.parameters.to(device)
        made.append(bound)
    return made
