"""`LMHistory`: the records of a loss as lists, as they are handed out with a loss."""

from __future__ import annotations

from pydantic import Field

from nectargan_core._frozen import FrozenModel


class LMHistory(FrozenModel, frozen=True):
    """What a loss has been, one entry a record in each list.

    Args:
        losses: Mean of the weighted result, as it was in the result's own dtype.
        weights: The weight applied.
        unweighted: Mean of the result before weighting; nan where a weight of 0 left the function uncalled.
        steps: Step of the record: the manager's clock, or the number of the loss's own call from 0.
        epochs: Epoch of the record.

    Example:
        >>> LMHistory().losses
        []
    """

    losses: list[float] = Field(default_factory=list)
    weights: list[float] = Field(default_factory=list)
    unweighted: list[float] = Field(default_factory=list)
    steps: list[int] = Field(default_factory=list)
    epochs: list[float] = Field(default_factory=list)
