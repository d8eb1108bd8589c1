"""CR-MOGM: the weights of another weighting, averaged over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from nectargan_torchjd.direct import IMTLG, MGDA, AlignedMTL, Krum
from nectargan_torchjd.gramian import GramianWeighting
from nectargan_torchjd.parameters import PerLoss, refused, share
from nectargan_torchjd.priority import PCD
from nectargan_torchjd.solvers import CAGrad, DualProj, FairGrad, UPGrad
from nectargan_torchjd.states import entry, numbers
from nectargan_torchjd.surgery import GradVac, PCGrad

OTHERS: Final = {
    "torchjd-aligned-mtl": AlignedMTL,
    "torchjd-cagrad": CAGrad,
    "torchjd-dualproj": DualProj,
    "torchjd-fairgrad": FairGrad,
    "torchjd-gradvac": GradVac,
    "torchjd-imtl-g": IMTLG,
    "torchjd-krum": Krum,
    "torchjd-mgda": MGDA,
    "torchjd-pcd": PCD,
    "torchjd-pcgrad": PCGrad,
    "torchjd-upgrad": UPGrad,
}
"""The weightings that can be averaged, by name."""


class CRMOGM(GramianWeighting):
    """CR-MOGM: a moving average of the weights of another weighting of TorchJD, kept by the names of the losses.

    A loss that runs for the first time starts with the weight that the other weighting gives it.

    Args:
        weighting: The name of the other one, such as `"torchjd-mgda"`.
        params: Its keyword arguments, except `weighted`.
        alpha: The share of the old weight in the average, from 0 to 1. With 1 the first weights stay.
        initial_weights: Where the average starts, at least 0: a list in the order of the losses, or a dict by name.
            None: at the first weights of the other weighting.
        weighted: See `GramianWeighting`.

    Raises:
        ValueError: If a parameter is out of its range.
        TypeError: If the other weighting does not take its params.
        ImportError: If it needs an extra that is not installed.

    Source:
        Zhou et al., "On the Convergence of Stochastic Multi-Objective Gradient Manipulation and Beyond" (NeurIPS 2022).

    Example:
        >>> smooth = CRMOGM(weighting="torchjd-mgda", alpha=0.75)
        >>> gram = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> smooth.weigh(["a", "b"], gram, step=0)
        tensor([0.5000, 0.5000], dtype=torch.float64)
        >>> gram[0, 0] = 0.0
        >>> smooth.weigh(["a", "b"], gram, step=1)
        tensor([0.6250, 0.3750], dtype=torch.float64)
    """

    def __init__(
        self,
        *,
        weighting: str,
        params: Mapping[str, object] | None = None,
        alpha: float = 0.9,
        initial_weights: Sequence[float] | dict[str, float] | None = None,
        weighted: bool = True,
    ) -> None:
        if not isinstance(weighting, str) or weighting not in OTHERS:
            raise refused("weighting", f"one of {', '.join(OTHERS)}", weighting)
        if not (params is None or isinstance(params, Mapping)) or "weighted" in (params or {}):
            raise refused("params", "a dict of the params of the other weighting without weighted", params)
        self._alpha = share("alpha", alpha)
        self._initial = None if initial_weights is None else PerLoss("initial_weights", initial_weights)
        self._other: GramianWeighting = OTHERS[weighting](**(params or {}))
        super().__init__(self._other.torchjd, weighted)
        self._weights: dict[str, float] = {}

    def begin(self, names: Sequence[str]) -> None:
        """Learn the names of all losses that are balanced; see `GramianWeighting.begin`."""
        self._other.begin(names)
        if self._initial is not None:
            self._initial.begin(names)

    def weigh(self, names: Sequence[str], gram: Tensor, step: int) -> Tensor:
        """Return the weight of each gradient; see `GramianWeighting.weigh`."""
        new = self._other.weigh(names, gram, step)
        first = new.tolist() if self._initial is None else self._initial.of(names)
        known = dict(zip(names, first, strict=True)) | self._weights
        old = torch.tensor([known[name] for name in names], dtype=new.dtype)
        averaged = self._alpha * old + (1.0 - self._alpha) * new
        self._weights = {**self._weights, **dict(zip(names, averaged.tolist(), strict=True))}
        return averaged

    def state_dict(self) -> dict[str, object]:
        """Return the averages, by the name of the loss, and the state of the other weighting."""
        other = self._other.state_dict() if isinstance(self._other, (GradVac, PCD)) else {}
        return {"weights": dict(self._weights), "other": other}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            ValueError: If it is something else.
        """
        weights = numbers(entry(state, "weights"), "weights")
        other = entry(state, "other")
        if isinstance(self._other, (GradVac, PCD)):
            self._other.load_state_dict(other)
        self._weights = weights
