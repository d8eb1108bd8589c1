"""`ComputedLosses`: the weighted results of a call of `compute_losses`, and their total."""

from __future__ import annotations

import torch
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)


class ComputedLosses(dict[str, Tensor]):
    """Weighted results by loss name, with their `total`.

    Example:
        >>> losses = ComputedLosses(a=torch.tensor(1.0), b=torch.tensor([2.0, 4.0]))
        >>> float(losses.total)
        4.0
    """

    _skipped: frozenset[str] = frozenset()

    @property
    def ran(self) -> tuple[str, ...]:
        """The names of the losses whose function was called, and not skipped for a weight of 0."""
        return tuple(name for name in self if name not in self._skipped)

    @property
    def total(self) -> Tensor:
        """The sum of the results, of which each that is not a scalar counts with its mean.

        Results of half precision are added in float32, in which their sum does not overflow.
        """
        scalars = [result.mean() if result.ndim else result for result in self.values()]
        if len(scalars) > 1:
            scalars = [scalar.float() if scalar.dtype in _HALF else scalar for scalar in scalars]
        if not scalars:
            # A zero that backward() accepts.
            return torch.zeros((), requires_grad=torch.is_grad_enabled())
        summed = scalars[0]
        for scalar in scalars[1:]:
            summed = summed + scalar
        return summed
