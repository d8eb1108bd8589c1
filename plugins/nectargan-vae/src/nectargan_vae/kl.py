"""The KL divergence of the latent distribution of a variational autoencoder from a standard normal distribution."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from nectargan_vae._checks import checked_number, checked_pair

Reduction: TypeAlias = Literal["batchmean", "mean", "sum", "none"]
_REDUCTIONS = ("batchmean", "mean", "sum", "none")


class KL(nn.Module):
    """KL divergence of N(mu, exp(logvar)) from N(0, 1), summed over the latent dimensions, averaged over the batch.

    Of one latent dimension it is (mu² + exp(logvar) - 1 - logvar) / 2 nats. Half-precision tensors are computed in
    float32, under autocast too, and the result is float32: a sum over many dimensions exceeds the range of float16.

    With `free_bits` λ, each group of latent dimensions costs max(λ, its divergence averaged over the batch), so that a
    group is not pushed below λ nats, and a decoder keeps using it. A group is an index of dimension 1: a latent
    dimension of (N, d), a channel of (N, C, H, W), whose positions are summed.

    Args:
        reduction: `"batchmean"` sums over the latent dimensions and averages over the batch, as the evidence lower
            bound has it; `"mean"` averages over all elements; `"sum"` sums over all; `"none"` gives the divergences
            in the shape of the tensors. The names are those of `torch.nn.KLDivLoss`.
        free_bits: λ, in nats per group, 0 or greater; 0 for none. With a λ the reduction cannot be `"none"`.

    Raises:
        TypeError: If `free_bits` is no number.
        ValueError: If `free_bits` is negative or not finite, or `reduction` is none of these.

    Source:
        Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix B. Free bits: Kingma, Salimans,
        Jozefowicz, Chen, Sutskever and Welling, "Improved Variational Inference with Inverse Autoregressive Flow",
        NeurIPS 2016, appendix C.

    Example:
        >>> import torch
        >>> mu, logvar = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.zeros(2, 2)
        >>> KL()(mu, logvar)
        tensor(2.5000)
        >>> KL(free_bits=0.25)(mu, logvar)
        tensor(2.7500)
    """

    def __init__(self, *, reduction: Reduction = "batchmean", free_bits: float = 0.0) -> None:
        super().__init__()
        if reduction not in _REDUCTIONS:
            raise ValueError(f'KL: reduction is "batchmean", "mean", "sum" or "none", got {reduction!r}')
        self.reduction = reduction
        self.free_bits = checked_number("KL", "free_bits", free_bits)
        if self.free_bits and reduction == "none":
            raise ValueError(
                'KL: free_bits holds for averages over the batch, which reduction="none" does not take; use another '
                "reduction, or free_bits=0"
            )

    def forward(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Compute the divergence.

        Args:
            mu: The means, (N, d, ...), floating point, any range.
            logvar: The logarithms of the variances, of the same shape.

        Returns:
            The divergence in nats, in float32, or in float64 if one of the tensors is.

        Raises:
            TypeError: If a tensor is not of a floating-point dtype.
            ValueError: If the shapes differ, or have less than two dimensions.
        """
        mean, log = checked_pair("KL", 2, "(N, d, ...)", mu=mu, logvar=logvar)
        # expm1: of exp(logvar) - 1 - logvar only rounding would be left where logvar is near 0.
        divergence = 0.5 * (mean.square() + torch.expm1(log) - log)
        if self.reduction == "none":
            return divergence
        if not self.free_bits:
            if self.reduction == "mean":
                return divergence.mean()
            total = divergence.sum()
            return total if self.reduction == "sum" else total / len(divergence)
        groups = divergence.mean(0).flatten(1).sum(1) if divergence.dim() > 2 else divergence.mean(0)
        total = groups.clamp_min(self.free_bits).sum()
        if self.reduction == "sum":
            return total * len(divergence)
        return total / divergence[0].numel() if self.reduction == "mean" else total

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return f"reduction={self.reduction!r}, free_bits={self.free_bits:g}"
