"""`ComputedLosses`: the weighted results of a call of `compute_losses`, and their total."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nectargan_core.errors import NectarganError

if TYPE_CHECKING:
    from nectargan_core.losses._bound import Place

_HALF = (torch.float16, torch.bfloat16)


class ComputedLosses(dict[str, Tensor]):
    """Weighted results by loss name, with their `total`.

    Example:
        >>> losses = ComputedLosses(a=torch.tensor(1.0), b=torch.tensor([2.0, 4.0]))
        >>> float(losses.total)
        4.0
    """

    _skipped: frozenset[str] = frozenset()
    # What the functions returned, and where the total belongs; None where compute_losses did not say.
    _raw: Mapping[str, Tensor | None] | None = None
    _place: Place | None = None

    @property
    def ran(self) -> tuple[str, ...]:
        """The names of the losses whose function was called, and not skipped for a weight of 0."""
        return tuple(name for name in self if name not in self._skipped)

    @property
    def unweighted(self) -> Mapping[str, Tensor]:
        """What the functions returned, before weighting, by loss name: detached; nan for a loss that was skipped.

        Made when it is asked for, without waiting for a device.

        Raises:
            NectarganError: If the losses were computed inside `torch.compile`, or not by `compute_losses`.

        Example:
            >>> from nectargan_core import LossManager
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0)
            >>> losses = manager.compute_losses({"y_fake": torch.zeros(2), "y": torch.ones(2)})
            >>> float(losses["G_L1"]), float(losses.unweighted["G_L1"])
            (100.0, 1.0)
        """
        raw = self._raw
        if raw is None:
            raise NectarganError(
                "only compute_losses outside of torch.compile keeps unweighted values; for losses that a compiled "
                "graph computed, read the histories of get_registered_losses(strip=False)"
            )
        return MappingProxyType({name: _before_weighting(raw.get(name), result) for name, result in self.items()})

    @property
    def total(self) -> Tensor:
        """The sum of the results, of which each that is not a scalar counts with its mean.

        Results of half precision are added in float32, in which their sum does not overflow. A total that is nan or
        infinite although the losses are not is reported like a loss named `total`, once, when it is asked for; on an
        accelerator when values are read next.

        Raises:
            NonFiniteLossError: With `nonfinite="raise"`, if the sum of finite losses is not finite.
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
        if self._place is not None and not torch.compiler.is_dynamo_compiling():
            (recorder, prefix, step, epoch), self._place = self._place, None
            # On the CPU there is nothing to wait for.
            if len(scalars) > 1 and not (summed.is_cpu and math.isfinite(summed.item())):
                recorder.check_total(summed, dict(zip(self, scalars, strict=True)), prefix, step, epoch)
        return summed


def _before_weighting(raw: Tensor | None, weighted: Tensor) -> Tensor:
    if raw is None:
        return torch.full((), math.nan, dtype=weighted.dtype, device=weighted.device)
    return raw.detach()
