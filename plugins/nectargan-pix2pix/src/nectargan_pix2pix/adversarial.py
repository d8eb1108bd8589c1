"""The adversarial loss of pix2pix as a module: binary cross-entropy of the discriminator's logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor, nn


class Adversarial(nn.Module):
    """Binary cross-entropy between the predictions of a discriminator and a target.

    The module makes the target itself, on the device of the prediction, so that a training loop need not pass
    one. It has no parameters and no buffers.

    Args:
        real: The module's own target: True for "real" (1), False for "generated" (0).

    Source:
        Goodfellow et al., "Generative Adversarial Nets" (2014), section 3, with the generator's objective in its
        non-saturating form; over the patches of Isola et al., arXiv:1611.07004, section 3.2.2.

    Example:
        >>> import torch
        >>> undecided = torch.zeros(1, 1, 6, 6)
        >>> round(float(Adversarial(real=True)(undecided)), 4)
        0.6931
    """

    def __init__(self, *, real: bool) -> None:
        super().__init__()
        self.real = real

    def forward(self, prediction: Tensor, target: Tensor | None = None) -> Tensor:
        """Compare a prediction with its target.

        Args:
            prediction: Logits, one for each patch, of any shape.
            target: Probabilities of the same shape, 0 to 1. None: the module's own.

        Returns:
            The mean over all patches, a scalar.

        Raises:
            ValueError: If the shapes differ.
        """
        if target is None:
            target = torch.full_like(prediction, float(self.real))
        return F.binary_cross_entropy_with_logits(prediction, target)

    def extra_repr(self) -> str:
        """Show the target where the module is printed."""
        return f"real={self.real}"
