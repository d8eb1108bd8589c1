"""`random`: new random factors at each step (RLW)."""

from __future__ import annotations

from typing import ClassVar

from nectargan_core import WeightingStep
from nectargan_weightings.draws import normal
from nectargan_weightings.parameters import integer
from nectargan_weightings.softmax import softmax


class RandomWeighting:
    """Draw the factors at random at each step.

    With z_i ~ N(0, 1) and n the number of losses: f = n·softmax(z). The authors' weights sum to 1; here factors sum to
    n, as n factors of 1 do.

    Args:
        seed: Together with the step and the name of a loss it determines z: a resumed run, each rank of a distributed
            run, and a run with one loss more draw the same z. An integer from 0 to 2**63 - 1.

    Raises:
        TypeError: If `seed` is no integer.
        ValueError: If `seed` is out of its range.

    Example:
        >>> import torch
        >>> from nectargan_core import LossManager, Weighting
        >>> manager = LossManager()
        >>> for name in ("a", "b"):
        ...     manager.register_loss_fn(name, torch.nn.L1Loss())
        >>> manager.set_weighting(Weighting("random", params={"seed": 1}))
        >>> losses = manager.compute_losses({"y_fake": torch.zeros(2), "y": torch.ones(2)})
        >>> round(sum(manager.get_loss_weights(precision=None).values()), 6)
        2.0

    Source: Lin et al., "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning", TMLR
    2022, section 3; LibMTL, `RLW`.
    """

    needs: ClassVar = "values"

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = integer("seed", seed, 0, 2**63 - 1)

    def factors(self, step: WeightingStep) -> list[float]:
        """Return a random factor for each loss."""
        return list(softmax({name: normal(self.seed, step.step, name) for name in step.names}).values())
