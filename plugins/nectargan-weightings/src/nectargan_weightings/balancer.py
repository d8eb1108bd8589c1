"""`balancer`: each loss gets its share of the gradient with respect to the output, whatever its scale (EnCodec)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from nectargan_core import WeightingStep
from nectargan_weightings.parameters import above_zero, at_least_zero, by_name, share


class Balancer:
    """Scale the gradient of each loss with respect to the output, by its norm, to a share given by the weights.

    With g_i the gradient of loss i, before weighting, with respect to `wrt` (what the network returned), w_i its
    weight, and n_i the average norm of g_i: the gradient is multiplied by w_i/Σ_j abs(w_j)·total_norm/(n_i + ε), so
    that the factor is f_i = total_norm/(Σ_j abs(w_j)·(n_i + ε)). Sums are over the losses that run. With weights 2 and
    1 two thirds of the gradient come from the first loss, on average.

    The norm at a call is the mean over the batch of the norm of each sample's gradient. The average is exponential,
    without a bias towards 0: n = m/c with m ← decay·m + norm and c ← decay·c + 1.

    A loss whose gradients were 0 up to now has the factor 0, in the place of total_norm/ε. Norms that are not finite
    are left out of the average, and before any that is finite the factor is 1.

    In a distributed run the authors average the norms over all ranks. `Weighting("balancer", reduce="mean")` averages
    the factors, which is not quite the same, but makes the ranks agree, too.

    Args:
        total_norm: The norm of the whole gradient, if those of all losses pointed the same way, above 0.
        ema_decay: The decay of the average, from 0 (the last norm alone) to 1 (the mean of all).
        per_batch_item: Whether norms are taken for each sample, the first dimension of `wrt`; otherwise for the batch
            as a whole.
        epsilon: ε, at least 0.

    Raises:
        TypeError: If a parameter has another type.
        ValueError: If a parameter is out of its range.

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> gradients = [[torch.tensor([[3.0, 4.0]])], [torch.tensor([[0.0, 0.1]])]]
        >>> step = SimpleNamespace(names=("a", "b"), weights=[2.0, 1.0], gradients=lambda: gradients)
        >>> [round(factor, 4) for factor in Balancer().factors(step)]  # 1/(3·5), 1/(3·0.1)
        [0.0667, 3.3333]

    Source: Défossez et al., "High Fidelity Neural Audio Compression", 2022, section 3.4; the authors' `encodec` and
    `audiocraft`, from which the names and defaults of the parameters are. Their options that switch the balancing off
    (`rescale_grads`, `balance_grads`) and record the shares (`monitor`) have no counterpart here. The norm of a sample
    that is one number is its absolute value; theirs is that of the whole batch.
    """

    needs: ClassVar = "gradients"

    def __init__(
        self,
        *,
        total_norm: float = 1.0,
        ema_decay: float = 0.999,
        per_batch_item: bool = True,
        epsilon: float = 1e-12,
    ) -> None:
        self.total_norm = above_zero("total_norm", total_norm)
        self.ema_decay = share("ema_decay", ema_decay)
        if not isinstance(per_batch_item, bool):
            raise TypeError(f"per_batch_item must be True or False, got {per_batch_item!r}")
        self.per_batch_item = per_batch_item
        self.epsilon = at_least_zero("epsilon", epsilon)
        # By loss name: sums of norms and of ones, with decay.
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}

    def factors(self, step: WeightingStep) -> list[float]:
        """Return the factors that follow from the average norms, those of this step included."""
        norm_of = _norm_per_sample if self.per_batch_item else _norm
        norms = torch.stack([norm_of(gradients) for gradients in step.gradients()]).tolist()
        weight = sum(map(abs, step.weights))
        return [self._factor(self._average(name, norm), weight) for name, norm in zip(step.names, norms, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Return the averages, by loss name."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of `state_dict`.

        Raises:
            ValueError: If it is something else.
        """
        sums, counts = by_name(state, "sums"), by_name(state, "counts")
        if sums.keys() != counts.keys() or not all(count > 0.0 for count in counts.values()):
            raise ValueError(f"the state of a weighting must have a count above 0 for each sum, got {counts!r}")
        self._sums, self._counts = sums, counts

    def _average(self, name: str, norm: float) -> float | None:
        if math.isfinite(norm):
            self._sums[name] = self._sums.get(name, 0.0) * self.ema_decay + norm
            self._counts[name] = self._counts.get(name, 0.0) * self.ema_decay + 1.0
        return self._sums[name] / self._counts[name] if name in self._sums else None

    def _factor(self, average: float | None, weight: float) -> float:
        if average is None:
            return 1.0
        return 0.0 if average == 0.0 else self.total_norm / (weight * (average + self.epsilon))


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    """Return the norm of gradients together."""
    norms = [torch.linalg.vector_norm(each, dtype=_precise(each)) for each in gradients]
    norm: Tensor = torch.linalg.vector_norm(_together(norms))
    return norm


def _norm_per_sample(gradients: Sequence[Tensor]) -> Tensor:
    """Return the mean over samples of the norms of their gradients.

    Raises:
        ValueError: If tensors have no samples, or not the same number.
    """
    lengths = {len(each) if each.ndim else None for each in gradients}
    if len(lengths) > 1 or None in lengths:
        shapes = ", ".join(str(tuple(each.shape)) for each in gradients)
        raise ValueError(
            f"wrt has the shapes {shapes}, and with per_batch_item the first dimension counts the samples of a batch; "
            "name what the network returned as wrt, or set per_batch_item to False"
        )
    # A sample that is one number is a vector of one.
    samples = [each.flatten(1) if each.ndim > 1 else each[:, None] for each in gradients]
    norms = [torch.linalg.vector_norm(each, dim=1, dtype=_precise(each)) for each in samples]
    mean: Tensor = torch.linalg.vector_norm(_together(norms), dim=0).mean()
    return mean


def _together(norms: Sequence[Tensor]) -> Tensor:
    return torch.stack([norm.to(norms[0]) for norm in norms])


def _precise(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
