"""The loss that a quantiser returns beside its codes, as a loss of the objective."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CodebookLoss(nn.Module):
    """The mean of the loss that a quantiser returns.

    What the quantiser computes is its own matter: codebook and commitment loss, or the KL divergence of a Gumbel
    quantiser. float16 and bfloat16 are computed in float32. The module has no parameters and no buffers.

    Source:
        `taming/modules/losses/vqperceptual.py` of taming-transformers, line 107.

    Example:
        >>> import torch
        >>> CodebookLoss()(torch.tensor([1.0, 2.0]))
        tensor(1.5000)
    """

    def forward(self, codebook_loss: Tensor) -> Tensor:
        """Return the mean.

        Args:
            codebook_loss: What the quantiser returned, a scalar or a tensor of any shape, floating point.

        Returns:
            A scalar, in float32, or float64 for a loss in float64.

        Raises:
            TypeError: If it is no tensor of a floating-point dtype.
            ValueError: If it has no elements.
        """
        if not isinstance(codebook_loss, Tensor) or not codebook_loss.is_floating_point():
            what = f"is {codebook_loss.dtype}" if isinstance(codebook_loss, Tensor) else f"is {codebook_loss!r:.60}"
            raise TypeError(
                "CodebookLoss expects the loss that the quantiser returned, a tensor of a floating-point dtype; "
                f"codebook_loss {what}"
            )
        if not codebook_loss.numel():
            raise ValueError(f"CodebookLoss expects elements to average; codebook_loss is {tuple(codebook_loss.shape)}")
        return codebook_loss.mean(dtype=torch.promote_types(codebook_loss.dtype, torch.float32))
