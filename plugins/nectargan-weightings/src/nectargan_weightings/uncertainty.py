"""`uncertainty`: factors that are learned with the network, as the uncertainty of each loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from nectargan_core import WeightingStep


class Uncertainty:
    """Learn the logarithm of a variance for each loss, and divide the loss by the variance.

    With s_i the logarithm of the variance of loss L_i, which is learned, and w_i its weight: the total is
    Σ (exp(-s_i)·w_i·L_i + s_i). So the factor is f_i = exp(-s_i), and Σ s_i of the losses that run is added to the
    total. All s_i are 0 at first, so that factors begin at 1. For regression the paper has half of this total; the
    authors' example has the whole.

    The s_i are parameters: `manager.modules()` has them, and they are to be given to an optimizer. The total is
    smallest at exp(s_i) = w_i·L_i, where loss and weight have no effect on the size of what is minimised: a weight, and
    a schedule that is slow compared with the optimizer, are learned away, but for a weight of 0. It is for losses that
    stay above 0: the s_i of one that is 0 or negative falls without an end, and its factor grows.

    It needs nothing but tensors, and is a part of the graph in compiled code.

    Example:
        >>> import torch
        >>> from nectargan_core import LossManager, Weighting
        >>> manager = LossManager()
        >>> manager.register_loss_fn("a", torch.nn.L1Loss())
        >>> manager.set_weighting(Weighting("uncertainty"))
        >>> optimizer = torch.optim.SGD(manager.modules().parameters(), lr=0.1)
        >>> manager.compute_losses({"y_fake": torch.zeros(2), "y": torch.full((2,), 3.0)}).total.backward()
        >>> optimizer.step()  # the gradient of s at 0 is 1 - 3
        >>> losses = manager.compute_losses({"y_fake": torch.zeros(2), "y": torch.full((2,), 3.0)})
        >>> round(losses.total.item(), 4)  # 3·exp(-0.2) + 0.2
        2.6562

    Source: Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and
    Semantics", CVPR 2018, section 3; the authors' `multi-task-learning-example`.
    """

    needs: ClassVar = "values"

    def __init__(self) -> None:
        self.parameters = nn.Module()

    def begin(self, names: Sequence[str]) -> None:
        """Make a parameter for each loss."""
        for name in names:
            self.parameters.register_parameter(_key(name), nn.Parameter(torch.zeros(())))

    def factors(self, step: WeightingStep) -> Tensor:
        """Return exp(-s) of each loss, with its graph."""
        return torch.exp(-self._log_variances(step))

    def extra(self, step: WeightingStep) -> Tensor:
        """Return the sum of s."""
        return self._log_variances(step).sum()

    def _log_variances(self, step: WeightingStep) -> Tensor:
        return torch.stack([getattr(self.parameters, _key(name)) for name in step.names]).to(step.tensors.device)


def _key(name: str) -> str:
    """Return the name of the parameter of a loss; names of parameters have no dots."""
    return "log_variance_" + name.replace("%", "%25").replace(".", "%2E")
