"""What all weightings of TorchJD have in common: factors that follow from the inner products of the gradients."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchjd.aggregation import Weighting
from torchjd.linalg import PSDMatrix

from nectargan_core import WeightingStep
from nectargan_core.errors import NectarganWarning
from nectargan_torchjd.parameters import PerLoss, refused


class GramianWeighting:
    """A weighting of TorchJD: the factors of losses are the weights that it gives their gradients.

    Args:
        weighting: TorchJD's own, which takes a Gram matrix.
        weighted: Whether the gradients are those of the losses multiplied by their own weights. The sum that is
            trained is then what the aggregator of TorchJD makes of these gradients. Otherwise the factors follow from
            the gradients of the losses as their functions returned them, and the weights multiply the outcome.

    Raises:
        ValueError: If `weighted` is not a bool.
    """

    needs: Literal["gradients"] = "gradients"
    # What a weighting of TorchJD that has a `pref_vector` is to take for it.
    preference: PerLoss | None = None

    def __init__(self, weighting: Weighting[PSDMatrix], weighted: bool) -> None:
        if not isinstance(weighted, bool):
            raise refused("weighted", "True or False", weighted)
        self.torchjd = weighting
        self._weighted = weighted
        self._has_warned = False

    def begin(self, names: Sequence[str]) -> None:
        """Learn the names of all losses that are balanced.

        Raises:
            ValueError: If the parameters do not fit them.
        """
        if self.preference is not None:
            self.preference.begin(names)

    def factors(self, step: WeightingStep) -> list[float]:
        """Return the factor of each loss that runs.

        Raises:
            ValueError: If a gradient is not finite, or TorchJD cannot weigh them.
        """
        # In whatever TorchJD does with a few numbers a device would be waited for again and again.
        gram = step.gram(weighted=self._weighted).detach().cpu().double()
        squares = gram.diagonal().tolist()
        if broken := [name for name, square in zip(step.names, squares, strict=True) if not math.isfinite(square)]:
            raise ValueError(f"the gradient of {', '.join(broken)} is not finite, so that there are no weights")
        # TorchJD makes tensors on the default device, and to set that makes each operation slower.
        on_cpu = contextlib.nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
        with torch.no_grad(), on_cpu:
            factors: list[float] = self.weigh(step.names, gram, step.step).tolist()
        return factors

    def weigh(self, names: Sequence[str], gram: Tensor, step: int) -> Tensor:
        """Return the weight of each gradient.

        Args:
            names: The losses.
            gram: The inner products of their gradients, (n, n), in float64 on the CPU.
            step: The step, on which random choices depend.

        Returns:
            The weights, (n,), in float64.

        Raises:
            ValueError: If TorchJD cannot weigh them.
        """
        if self.preference is not None:
            vector = torch.tensor(self.preference.of(names), dtype=gram.dtype)
            self.torchjd.pref_vector = vector
        return self._ask(gram)

    def _ask(self, gram: Tensor) -> Tensor:
        """Return what TorchJD's weighting says."""
        try:
            return self.torchjd(gram)
        except Exception as error:  # solvers raise what they like
            norms = ", ".join(f"{norm:.3g}" for norm in gram.diagonal().sqrt().tolist())
            raise ValueError(f"TorchJD cannot weigh gradients with the norms {norms}: {error}") from error

    def _warn_once(self, message: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(message, NectarganWarning, stacklevel=3)


class NormalizedWeighting(GramianWeighting):
    """A weighting that takes gradients for 0 whose squared norms sum to less than `norm_eps`; says so, once."""

    def __init__(self, weighting: Weighting[PSDMatrix], weighted: bool, norm_eps: float) -> None:
        super().__init__(weighting, weighted)
        self._norm_eps = norm_eps

    def weigh(self, names: Sequence[str], gram: Tensor, step: int) -> Tensor:
        """Return the weight of each gradient; see `GramianWeighting.weigh`."""
        total = gram.trace().item()
        if 0.0 < total < self._norm_eps:
            self._warn_once(
                f"the squared norms of the gradients of {', '.join(names)} sum to {total:.3g}, and TorchJD takes "
                f"gradients for 0 where that is below norm_eps, which is {self._norm_eps:g}; give a smaller norm_eps "
                "in the params of the weighting"
            )
        return super().weigh(names, gram, step)
