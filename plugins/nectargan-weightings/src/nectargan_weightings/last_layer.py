"""`last-layer`: one loss, the adversarial one, gets gradients on the last layer as large as those of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from nectargan_core import WeightingStep
from nectargan_weightings.parameters import above_zero, at_least_zero, hint


class LastLayer:
    """Weigh one loss against the weighted sum of the others, by their gradients with respect to the last layer.

    With g_i the gradient of loss i with respect to `wrt`, before weighting, w_i its weight, and a the loss named
    `loss`: f_a = min(norm(Σ_{i≠a} w_i·g_i)/(norm(g_a) + ε), maximum). All other factors are 1. The weight of the loss
    itself multiplies the result, as `disc_weight` does in the authors' code.

    When it starts is a matter of the weight of the loss: a schedule that is 0 up to a step (`Schedule("window",
    unit="step", start=10_000, initial_value=0.0, target_value=0.8)`). While the weight is 0, or no other loss runs, all
    factors are 1. A loss that has no gradient with respect to `wrt`, such as a codebook loss, keeps the factor 1.

    Args:
        loss: The name of the loss.
        epsilon: ε, at least 0.
        maximum: The largest factor, above 0.

    Raises:
        TypeError: If a parameter has another type.
        ValueError: If a parameter is out of its range.

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> gradients = [[torch.tensor([3.0, 4.0])], [torch.tensor([0.0, 0.1])]]
        >>> step = SimpleNamespace(names=("G_L1", "G_GAN"), weights=[2.0, 0.8], gradients=lambda: gradients)
        >>> [round(factor, 2) for factor in LastLayer(loss="G_GAN").factors(step)]  # 2·5/(0.1 + 1e-4)
        [1.0, 99.9]

    Source: Esser, Rombach and Ommer, "Taming Transformers for High-Resolution Image Synthesis", CVPR 2021, equation 7.
    The paper has ε = 1e-6; ε and the maximum are those of the authors' code (`taming-transformers`).
    """

    needs: ClassVar = "gradients"
    allow_unreached: ClassVar = True

    def __init__(self, *, loss: str, epsilon: float = 1e-4, maximum: float = 1e4) -> None:
        if not isinstance(loss, str):
            raise TypeError(f"loss must be the name of a loss, got {loss!r}")
        self.loss = loss
        self.epsilon = at_least_zero("epsilon", epsilon)
        self.maximum = above_zero("maximum", maximum)

    def begin(self, names: Sequence[str]) -> None:
        """Check that the loss is one of those that are balanced, and that there are others.

        Raises:
            ValueError: If not.
        """
        others = [name for name in names if name != self.loss]
        if len(others) == len(names):
            raise ValueError(
                f"loss names the loss to weigh against the others of {', '.join(map(repr, names))}, and "
                f"{self.loss!r} is none of these.{hint(self.loss, names)}"
            )
        if not others:
            raise ValueError(f"there is no loss to weigh {self.loss!r} against; choose a query that has more losses")

    def factors(self, step: WeightingStep) -> list[float]:
        """Return the factor of the one loss, and 1 for all others.

        Raises:
            ValueError: If a gradient is not finite.
        """
        factors = [1.0] * len(step.names)
        if self.loss in step.names and len(step.names) > 1:
            place = step.names.index(self.loss)
            gradients = step.gradients()
            # Several tensors have one entry each in a row.
            summed = [_summed(each, step.weights, place) for each in zip(*gradients, strict=True)]
            others, own = _norm(summed), _norm(gradients[place])
            if not (math.isfinite(others) and math.isfinite(own)):
                raise _not_finite(step.names, gradients)
            factors[place] = self._ratio(others, own)
        return factors

    def _ratio(self, others: float, own: float) -> float:
        own += self.epsilon
        if others == 0.0:
            return 0.0
        return others / own if others < self.maximum * own else self.maximum


def _not_finite(names: Sequence[str], gradients: Sequence[Sequence[Tensor]]) -> ValueError:
    broken = [name for name, each in zip(names, gradients, strict=True) if not math.isfinite(_norm(each))]
    what = f"the gradient of {', '.join(broken)}" if broken else f"the sum of the gradients of {', '.join(names)}"
    return ValueError(f"{what} is not finite, so that there is no factor")


def _summed(gradients: Sequence[Tensor], weights: Sequence[float], but: int) -> Tensor:
    """Return the weighted sum of gradients but for one, in single precision at least."""
    total = torch.zeros_like(gradients[0], dtype=_precise(gradients[0]))
    for place, (gradient, weight) in enumerate(zip(gradients, weights, strict=True)):
        if place != but:
            total.add_(gradient.to(total), alpha=weight)
    return total


def _norm(gradients: Sequence[Tensor]) -> float:
    """Return the norm of gradients together, in single precision at least."""
    return math.hypot(*(torch.linalg.vector_norm(each, dtype=_precise(each)).item() for each in gradients))


def _precise(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
