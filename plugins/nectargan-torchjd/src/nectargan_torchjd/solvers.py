"""Weightings whose weights a numerical solver finds, which is installed as an extra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torchjd.aggregation import CAGradWeighting, DualProjWeighting, FairGradWeighting, UPGradWeighting
from torchjd.linalg import QuadprogProjector

from nectargan_torchjd.gramian import GramianWeighting, NormalizedWeighting
from nectargan_torchjd.parameters import PerLoss, number, whole

_T = TypeVar("_T")
# At this norm the weights were measured to miss the equation that they solve by 1 %, and by more below: the solver has
# absolute tolerances, of 1e-8.
_SHORTEST = 0.01


def _made(extra: str, make: Callable[[], _T], terms: str = "") -> _T:
    """Make what needs an extra, or raise an error that names the extra, and what is to be known about its licence."""
    try:
        return make()
    except ImportError as error:
        raise ImportError(
            f'this weighting needs a solver that is not installed: pip install "nectargan-torchjd[{extra}]"{terms}'
        ) from error


class CAGrad(NormalizedWeighting):
    """Conflict-averse gradient descent: near the average gradient, what serves the loss that gains least.

    Args:
        c: How far from the average: the radius in multiples of its norm, at least 0. 0 is the average.
        norm_eps: Gradients whose squared norms sum to less count as 0, and all factors become 0; so they do where the
            shortest vector that the gradients can make is about 0. At least 0.
        weighted: See `GramianWeighting`.

    Raises:
        ValueError: If a parameter is out of its range.
        ImportError: Without the extra `cagrad`.

    Source:
        Liu et al., "Conflict-Averse Gradient Descent for Multi-task Learning" (NeurIPS 2021), algorithm 1.
    """

    def __init__(self, *, c: float, norm_eps: float = 0.0001, weighted: bool = True) -> None:
        radius, eps = number("c", c), number("norm_eps", norm_eps)
        super().__init__(_made("cagrad", lambda: CAGradWeighting(radius, eps)), weighted, eps)

    def weigh(self, names: Sequence[str], gram: Tensor, step: int) -> Tensor:
        """Return the weight of each gradient; see `GramianWeighting.weigh`."""
        # With norm_eps=0 TorchJD divides by this.
        return super().weigh(names, gram, step) if gram.trace() > 0.0 else torch.zeros(len(names), dtype=gram.dtype)


class FairGrad(GramianWeighting):
    """FairGrad: the utility of each loss, the inner product of its gradient with the sum, is shared out fairly.

    The weights have an absolute size: for `alpha=1` gradients that are twice as long get half of the weight, and
    neither the own weights of the losses nor schedules change the sum unless `weighted` is False.

    Args:
        alpha: What is fair, at least 0: 0 is the largest total, 1 proportional, 2 the least potential delay. The
            larger, the more counts the loss that gains least.
        max_iters: The largest number of evaluations of the solver, at least 1. None: 100 for each loss.
        weighted: See `GramianWeighting`.

    Raises:
        ValueError: If a parameter is out of its range.
        ImportError: Without the extra `fairgrad`.

    Source:
        Ban and Ji, "Fair Resource Allocation in Multi-Task Learning" (ICML 2024), equation 4.
    """

    torchjd: FairGradWeighting

    def __init__(self, *, alpha: float, max_iters: int | None = None, weighted: bool = True) -> None:
        fairness = number("alpha", alpha)
        evaluations = None if max_iters is None else whole("max_iters", max_iters)
        super().__init__(_made("fairgrad", lambda: FairGradWeighting(fairness, evaluations)), weighted)

    def weigh(self, names: Sequence[str], gram: Tensor, step: int) -> Tensor:
        """Return the weight of each gradient; see `GramianWeighting.weigh`."""
        norm = (gram.trace() / len(names)).sqrt().item()
        if 0.0 < norm < _SHORTEST and self.torchjd.alpha != 0.0:
            self._warn_once(
                f"the gradients of {', '.join(names)} have a norm of {norm:.3g} (root mean square), and the solver of "
                f"TorchJD stops too early where that is below {_SHORTEST:g}; multiply the weights of all of these "
                "losses by one number that makes it about 1"
            )
        return super().weigh(names, gram, step)


class _Projection(NormalizedWeighting):
    """What `UPGrad` and `DualProj` have in common: a preference and a projection."""

    def __init__(
        self,
        weighting: type[UPGradWeighting | DualProjWeighting],
        pref_vector: Sequence[float] | dict[str, float] | None,
        norm_eps: float,
        reg_eps: float,
        weighted: bool,
    ) -> None:
        self.preference = None if pref_vector is None else PerLoss("pref_vector", pref_vector)
        norm, reg = number("norm_eps", norm_eps), number("reg_eps", reg_eps)
        terms = "; quadprog is under the GPL"
        projector = _made("quadprog", lambda: QuadprogProjector(norm_eps=norm, reg_eps=reg), terms)
        super().__init__(weighting(projector=projector), weighted, norm)


class UPGrad(_Projection):
    """Unconflicting projection of gradients: each is projected to where no loss grows, and they are averaged.

    Args:
        pref_vector: The weight of each loss in the average, at least 0: a list in the order of the losses, or a dict by
            name. None: 1 / n for the n losses that run.
        norm_eps: Gradients whose squared norms sum to less count as 0, so that they are averaged as they are. At least
            0.
        reg_eps: What is added to the squared norms, as a share of their sum, so that the solver does not fail. At least
            0.
        weighted: See `GramianWeighting`.

    Raises:
        ValueError: If a parameter is out of its range.
        ImportError: Without the extra `quadprog`.

    Source:
        Quinton and Rey, "Jacobian Descent for Multi-Objective Optimization" (2024).
    """

    def __init__(
        self,
        *,
        pref_vector: Sequence[float] | dict[str, float] | None = None,
        norm_eps: float = 0.0001,
        reg_eps: float = 0.0001,
        weighted: bool = True,
    ) -> None:
        super().__init__(UPGradWeighting, pref_vector, norm_eps, reg_eps, weighted)


class DualProj(_Projection):
    """The average gradient, projected to where no loss grows.

    Args:
        pref_vector: See `UPGrad`.
        norm_eps: See `UPGrad`.
        reg_eps: See `UPGrad`.
        weighted: See `GramianWeighting`.

    Raises:
        ValueError: If a parameter is out of its range.
        ImportError: Without the extra `quadprog`.

    Source:
        Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning" (NIPS 2017).
    """

    def __init__(
        self,
        *,
        pref_vector: Sequence[float] | dict[str, float] | None = None,
        norm_eps: float = 0.0001,
        reg_eps: float = 0.0001,
        weighted: bool = True,
    ) -> None:
        super().__init__(DualProjWeighting, pref_vector, norm_eps, reg_eps, weighted)
