"""What the weightings of this package read of a step, as a type."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Step(Protocol):
    """The losses that are balanced at a step; `nectargan_core` makes it."""

    @property
    def names(self) -> tuple[str, ...]:
        """The losses that run and whose own weight is not 0."""

    @property
    def values(self) -> list[float]:
        """The means of their results, before weighting."""

    @property
    def tensors(self) -> Tensor:
        """The same as a vector, detached."""

    @property
    def weights(self) -> list[float]:
        """Their own weights."""

    @property
    def step(self) -> int:
        """The step of the clock."""

    @property
    def epoch(self) -> float:
        """The epoch of the clock."""

    def gradients(self) -> list[list[Tensor]]:
        """Return for each loss its gradient with respect to each tensor of `wrt`, before weighting."""

    def norms(self) -> Tensor:
        """Return the norms of these gradients as a vector."""
