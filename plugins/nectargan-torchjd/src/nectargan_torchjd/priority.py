"""Priority-constrained descent: one loss leads, and the others are guaranteed a share of progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchjd.aggregation import PCDWeighting

from nectargan_torchjd.gramian import GramianWeighting
from nectargan_torchjd.parameters import PerLoss, number, refused, share
from nectargan_torchjd.states import entry, numbers


class PCD(GramianWeighting):
    """Priority-constrained descent: follows the gradient of one loss as far as the others still make progress.

    The gradients are divided by moving averages of their norms, which are kept by the names of the losses. While the
    primary loss does not run, all factors are 1.

    Args:
        primary: The name of the loss that leads. None: the first of the losses.
        tau: The share of the progress along its own gradient that each other loss is guaranteed, from 0 to 1: a number,
            or one for each other loss, as a list in their order or a dict by name.
        beta: The share of the old value in the moving averages of the squared norms, from 0 to below 1.
        eps: What is added to them, at least 0.
        weighted: See `GramianWeighting`.

    Raises:
        ValueError: If a parameter is out of its range.

    Source:
        "Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical Multi-Objective Optimization"
        (TMLR 2026).

    Example:
        >>> gram = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
        >>> PCD().weigh(["a", "b"], gram, step=0)
        tensor([1., 0.], dtype=torch.float64)
    """

    torchjd: PCDWeighting

    def __init__(
        self,
        *,
        primary: str | None = None,
        tau: float | Sequence[float] | dict[str, float] = 0.02,
        beta: float = 0.999,
        eps: float = 1e-8,
        weighted: bool = True,
    ) -> None:
        if not (primary is None or isinstance(primary, str)):
            raise refused("primary", "the name of a loss", primary)
        if share("beta", beta) == 1.0:
            raise refused("beta", "a number from 0 to below 1", beta)
        self._taus = None if isinstance(tau, (int, float)) else PerLoss("tau", tau, share)
        shared = share("tau", tau) if self._taus is None else 0.0
        super().__init__(PCDWeighting(shared, beta, number("eps", eps)), weighted)
        self._primary = primary
        # By loss, the moving average and at how many steps it ran; replaced at once, so that they stay together.
        self._averages: dict[str, tuple[float, float]] = {}

    def begin(self, names: Sequence[str]) -> None:
        """Learn the names of all losses that are balanced; see `GramianWeighting.begin`."""
        if self._primary is None:
            self._primary = names[0]
        elif self._primary not in names:
            raise refused("primary", f"one of {', '.join(names)}", self._primary)
        if self._taus is not None:
            self._taus.begin([name for name in names if name != self._primary])

    def weigh(self, names: Sequence[str], gram: Tensor, step: int) -> Tensor:
        """Return the weight of each gradient; see `GramianWeighting.weigh`."""
        primary = names[0] if self._primary is None else self._primary
        if primary not in names:
            return torch.ones(len(names), dtype=gram.dtype)
        # TorchJD takes the first for the primary one.
        ordered = sorted(names, key=lambda name: name != primary)
        places = torch.tensor([names.index(name) for name in ordered])
        gram = gram[places][:, places]
        if self._taus is not None:
            self.torchjd.tau = torch.tensor(self._taus.of(ordered[1:]), dtype=gram.dtype)
        averages, calls = self._put(ordered, gram.diagonal())
        weights = torch.empty_like(averages)
        weights[places] = super().weigh(ordered, gram, step)
        after = zip(averages.tolist(), calls.tolist(), strict=True)
        self._averages = {**self._averages, **dict(zip(ordered, after, strict=True))}
        return weights

    def _put(self, names: Sequence[str], squares: Tensor) -> tuple[Tensor, Tensor]:
        """Give TorchJD the moving averages so far; return those that follow, and the number of calls of each loss."""
        beta = self.torchjd.beta
        known = torch.tensor([self._averages.get(name, (0.0, 0.0)) for name in names], dtype=squares.dtype)
        before, calls = known.unbind(1)
        after = beta * before + (1.0 - beta) * squares
        # TorchJD has one number of calls, by which it corrects the averages, where losses that did not run at each step
        # have fewer. What it is given for these is such that the corrected average is that of their own number.
        most = calls.max()
        if beta > 0.0:
            corrected = after * ((1.0 - beta ** (most + 1.0)) / (1.0 - beta ** (calls + 1.0)))
            before = torch.where(calls == most, before, (corrected - (1.0 - beta) * squares) / beta)
        torchjd: Any = self.torchjd
        torchjd._sq_norm_ema = before
        torchjd._n_steps = most.to(torch.int64)
        torchjd._state_key = len(names)
        return after, calls + 1.0

    def state_dict(self) -> dict[str, object]:
        """Return the moving averages, and at how many steps each loss ran, by its name."""
        return {
            "squares": {name: square for name, (square, _) in self._averages.items()},
            "calls": {name: calls for name, (_, calls) in self._averages.items()},
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            ValueError: If it is something else.
        """
        squares, calls = numbers(entry(state, "squares"), "squares", 0.0), numbers(entry(state, "calls"), "calls", 1.0)
        if squares.keys() != calls.keys():
            raise ValueError("'squares' and 'calls' of a state must have the same losses")
        self._averages = {name: (square, calls[name]) for name, square in squares.items()}
