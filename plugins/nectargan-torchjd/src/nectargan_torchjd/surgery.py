"""Weightings that change gradients one after the other, in an order drawn by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchjd.aggregation import GradVacWeighting, PCGradWeighting

from nectargan_torchjd.draws import Draws
from nectargan_torchjd.gramian import GramianWeighting
from nectargan_torchjd.parameters import number, share
from nectargan_torchjd.states import entry, numbers


class PCGrad(GramianWeighting):
    """Gradient surgery: from each gradient, what points against another is projected out; they are summed.

    Args:
        seed: Of the order in which the others are visited, which follows from seed and step; at least 0.
        weighted: See `GramianWeighting`.

    Raises:
        ValueError: If a parameter is out of its range.

    Source:
        Yu et al., "Gradient Surgery for Multi-Task Learning" (NeurIPS 2020), algorithm 1.

    Example:
        >>> gram = torch.tensor([[1.0, -0.5], [-0.5, 1.0]], dtype=torch.float64)
        >>> PCGrad().weigh(["a", "b"], gram, step=0)
        tensor([1.5000, 1.5000], dtype=torch.float64)
    """

    def __init__(self, *, seed: int = 0, weighted: bool = True) -> None:
        super().__init__(PCGradWeighting(), weighted)
        self._draws = Draws(seed)

    def weigh(self, names: Sequence[str], gram: Tensor, step: int) -> Tensor:
        """Return the weight of each gradient; see `GramianWeighting.weigh`."""
        with self._draws.at(step):
            return super().weigh(names, gram, step)


class GradVac(GramianWeighting):
    """Gradient vaccine: where two gradients agree less than they used to, one is turned towards the other.

    How far a pair of losses agrees is a moving average of the cosine of their gradients, which is kept by their names.

    Args:
        beta: The share of the new cosine in the moving average, from 0 to 1.
        eps: What is added to products of norms before something is divided by them, at least 0.
        seed: Of the order in which the others are visited, which follows from seed and step; at least 0.
        weighted: See `GramianWeighting`.

    Raises:
        ValueError: If a parameter is out of its range.

    Source:
        Wang et al., "Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively Multilingual
        Models" (ICLR 2021).

    Example:
        >>> gram = torch.tensor([[1.0, -0.5], [-0.5, 1.0]], dtype=torch.float64)
        >>> GradVac().weigh(["a", "b"], gram, step=0)
        tensor([1.5000, 1.5000], dtype=torch.float64)
    """

    def __init__(self, *, beta: float = 0.5, eps: float = 1e-8, seed: int = 0, weighted: bool = True) -> None:
        super().__init__(GradVacWeighting(share("beta", beta), number("eps", eps)), weighted)
        self._draws = Draws(seed)
        self._cosines: dict[str, dict[str, float]] = {}

    def weigh(self, names: Sequence[str], gram: Tensor, step: int) -> Tensor:
        """Return the weight of each gradient; see `GramianWeighting.weigh`."""
        known = [[self._cosines.get(one, {}).get(other, 0.0) for other in names] for one in names]
        # TorchJD knows losses by their places, and forgets all when their number changes.
        torchjd: Any = self.torchjd
        torchjd._phi_t = torch.tensor(known, dtype=gram.dtype)
        torchjd._state_key = (len(names), gram.dtype)
        with self._draws.at(step):
            weights = super().weigh(names, gram, step)
        cosines = {name: dict(row) for name, row in self._cosines.items()}
        for one, row in zip(names, torchjd._phi_t.tolist(), strict=True):
            cosines.setdefault(one, {}).update(
                (other, cosine) for other, cosine in zip(names, row, strict=True) if other != one
            )
        self._cosines = cosines
        return weights

    def state_dict(self) -> dict[str, object]:
        """Return the moving averages, by the names of the losses."""
        return {"cosines": {name: dict(row) for name, row in self._cosines.items()}}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            ValueError: If it is something else.
        """
        cosines = entry(state, "cosines")
        self._cosines = {name: numbers(entry(cosines, name), "cosines") for name in cosines}
