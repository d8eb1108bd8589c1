"""Weightings that follow from the norms and angles of the gradients, without choices by chance and without a state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torchjd.aggregation import AlignedMTLWeighting, IMTLGWeighting, KrumWeighting, MGDAWeighting

from nectargan_torchjd.gramian import GramianWeighting
from nectargan_torchjd.parameters import PerLoss, above_zero, refused, whole


class MGDA(GramianWeighting):
    """Multiple-gradient descent: the weights, which sum to 1, of the shortest vector that they can make.

    A step along it lets no loss grow. The shorter a gradient, the more weight it has; one that is 0 has all.

    Args:
        epsilon: The change of the weights below which the search stops, above 0.
        max_iters: The largest number of changes, at least 1.
        weighted: See `GramianWeighting`.

    Raises:
        ValueError: If a parameter is out of its range.

    Source:
        Désidéri, "Multiple-gradient descent algorithm (MGDA) for multiobjective optimization" (2012), with the search
        of Sener and Koltun, "Multi-Task Learning as Multi-Objective Optimization" (NeurIPS 2018), algorithm 2.

    Example:
        >>> import torch
        >>> gram = torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> MGDA().weigh(["a", "b"], gram, step=0)
        tensor([0.2000, 0.8000], dtype=torch.float64)
    """

    def __init__(self, *, epsilon: float = 0.001, max_iters: int = 100, weighted: bool = True) -> None:
        super().__init__(MGDAWeighting(above_zero("epsilon", epsilon), whole("max_iters", max_iters)), weighted)


class AlignedMTL(GramianWeighting):
    """Aligned-MTL: the gradients are made orthogonal and equally long, changed as little as that allows, and averaged.

    Args:
        pref_vector: The weight of each loss in the average, at least 0: a list in the order of the losses, or a dict by
            name. None: 1 / n for the n losses that run.
        scale_mode: How long they become: as the shortest (`"min"`), the median or the root mean square of the principal
            components of the gradients.
        weighted: See `GramianWeighting`.

    Raises:
        ValueError: If a parameter is out of its range.

    Source:
        Senushkin et al., "Independent Component Alignment for Multi-Task Learning" (CVPR 2023), algorithm 1.

    Example:
        >>> import torch
        >>> gram = torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> AlignedMTL().weigh(["a", "b"], gram, step=0)
        tensor([0.2500, 0.5000], dtype=torch.float64)
    """

    def __init__(
        self,
        *,
        pref_vector: Sequence[float] | dict[str, float] | None = None,
        scale_mode: Literal["min", "median", "rmse"] = "min",
        weighted: bool = True,
    ) -> None:
        if scale_mode not in ("min", "median", "rmse"):
            raise refused("scale_mode", '"min", "median" or "rmse"', scale_mode)
        super().__init__(AlignedMTLWeighting(scale_mode=scale_mode), weighted)
        self.preference = None if pref_vector is None else PerLoss("pref_vector", pref_vector)


class IMTLG(GramianWeighting):
    """Impartial multi-task learning: the sum has the same projection onto each gradient; the weights sum to 1.

    The direction of the sum does not depend on how long the gradients are. So the own weights of the losses, and
    schedules, do not change it unless `weighted` is False.

    Args:
        weighted: See `GramianWeighting`.

    Raises:
        ValueError: If `weighted` is not a bool.

    Source:
        Liu et al., "Towards Impartial Multi-task Learning" (ICLR 2021), in the form that Quinton and Rey, "Jacobian
        Descent for Multi-Objective Optimization" (2024), give it for dependent gradients.

    Example:
        >>> import torch
        >>> gram = torch.tensor([[4.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> IMTLG().weigh(["a", "b"], gram, step=0)
        tensor([0.3333, 0.6667], dtype=torch.float64)
    """

    def __init__(self, *, weighted: bool = True) -> None:
        super().__init__(IMTLGWeighting(), weighted)


class Krum(GramianWeighting):
    """Multi-Krum: the average of the gradients that are closest to the others; the others get the factor 0.

    Made against gradients that are wrong on purpose; of losses it drops those that disagree with most.

    Args:
        n_byzantine: How many gradients may be wrong, at least 0. It takes three losses more than that.
        n_selected: How many gradients are averaged, at least 1.
        weighted: See `GramianWeighting`.

    Raises:
        ValueError: If a parameter is out of its range.

    Source:
        Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent" (NIPS 2017).

    Example:
        >>> import torch
        >>> rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-5.0, 3.0]], dtype=torch.float64)
        >>> Krum(n_byzantine=0, n_selected=2).weigh(["a", "b", "c"], rows @ rows.T, step=0)
        tensor([0.5000, 0.5000, 0.0000], dtype=torch.float64)
    """

    def __init__(self, *, n_byzantine: int, n_selected: int = 1, weighted: bool = True) -> None:
        whole("n_byzantine", n_byzantine, low=0)
        super().__init__(KrumWeighting(n_byzantine, whole("n_selected", n_selected)), weighted)
        self._fewest = max(n_byzantine + 3, n_selected)

    def begin(self, names: Sequence[str]) -> None:
        """Learn the names of all losses that are balanced; see `GramianWeighting.begin`."""
        if len(names) < self._fewest:
            raise ValueError(
                f"n_byzantine and n_selected as given take at least {self._fewest} losses that run, got {len(names)}: "
                f"{', '.join(names)}"
            )

    def weigh(self, names: Sequence[str], gram: Tensor, step: int) -> Tensor:
        """Return the weight of each gradient; see `GramianWeighting.weigh`."""
        self.begin(names)
        return super().weigh(names, gram, step)
