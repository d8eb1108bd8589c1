"""The losses of a vector-quantised autoencoder: codebook and commitment."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor, nn

from nectargan_vae._checks import checked_number, checked_pair


class VQ(nn.Module):
    """Codebook and commitment loss: mean of (sg[z_e] - z_q)² plus beta times mean of (z_e - sg[z_q])².

    sg holds its argument constant: the first component moves the codebook towards the encoder's output, the second
    keeps the encoder's output close to the codebook. The means are over all elements. Half-precision tensors are
    computed in float32, under autocast too, and the result is float32.

    Args:
        beta: The weight of the commitment, 0 or greater.
        codebook_weight: The weight of the codebook loss, 0 or greater. 0 for a codebook that is not trained by gradient
            but by moving averages.

    Raises:
        TypeError: If a weight is no number.
        ValueError: If a weight is negative or not finite, or both are 0.

    Source:
        van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", NeurIPS 2017, equation 3,
        with a beta of 0.25; the authors' code has means in the place of the norms, as here. The quantiser of
        taming-transformers (Esser, Rombach and Ommer, "Taming Transformers for High-Resolution Image Synthesis", CVPR
        2021) multiplies the codebook loss by beta instead of the commitment, unless it is made with `legacy=False`.
        With a beta of 0.25, its numbers are those of `VQ(beta=1.0, codebook_weight=0.25)`.

    Example:
        >>> import torch
        >>> z_e, z_q = torch.zeros(2, 4), torch.full((2, 4), 2.0)
        >>> VQ()(z_e, z_q)
        {'codebook': tensor(4.), 'commitment': tensor(1.)}
    """

    def __init__(self, *, beta: float = 0.25, codebook_weight: float = 1.0) -> None:
        super().__init__()
        self.beta = checked_number("VQ", "beta", beta)
        self.codebook_weight = checked_number("VQ", "codebook_weight", codebook_weight)
        if not (self.beta or self.codebook_weight):
            raise ValueError("VQ: beta and codebook_weight are both 0, so that nothing is left; give one of them")

    def forward(self, z_e: Tensor, z_q: Tensor) -> dict[str, Tensor]:
        """Compare the encoder's output with its quantised form.

        Args:
            z_e: The encoder's output, of any shape, floating point.
            z_q: The vectors of the codebook that were chosen for it, of the same shape, as they come from the codebook:
                before the straight-through estimator, behind which no gradient reaches the codebook.

        Returns:
            The components `codebook` and `commitment`, each with its weight; one with a weight of 0 is left out. Both
            are float32, or float64 if one of the tensors is.

        Raises:
            TypeError: If a tensor is not of a floating-point dtype.
            ValueError: If the shapes differ.
        """
        encoded, quantised = checked_pair("VQ", 0, "such as (N, C, H, W)", z_e=z_e, z_q=z_q)
        components = {}
        if self.codebook_weight:
            components["codebook"] = F.mse_loss(quantised, encoded.detach()) * self.codebook_weight
        if self.beta:
            components["commitment"] = F.mse_loss(encoded, quantised.detach()) * self.beta
        return components

    def extra_repr(self) -> str:
        """Show the weights where the module is printed."""
        return f"beta={self.beta:g}, codebook_weight={self.codebook_weight:g}"
