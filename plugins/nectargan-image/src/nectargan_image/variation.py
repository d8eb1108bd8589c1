"""The total variation of an image as a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nectargan_core import check_images


class TotalVariation(nn.Module):
    """Mean absolute difference of neighbours: across, plus that down.

    It is the anisotropic total variation, divided by the number of differences in each direction. A direction in which
    the image has one pixel adds 0. Half-precision images are computed in float32.

    Example:
        >>> import torch
        >>> stripes = torch.tensor([0.0, 1.0]).repeat(1, 3, 8, 4)
        >>> TotalVariation()(stripes)
        tensor(1.)

    Source: Rudin, Osher and Fatemi, "Nonlinear Total Variation Based Noise Removal Algorithms", Physica D 60, 1992, for
    the total variation as a norm of the gradient. The absolute differences, each direction by its own mean, are those
    of `WeightedTVLoss` in BasicSR and of `total_variation` in kornia with its reduction "mean".
    """

    def forward(self, y_fake: Tensor) -> Tensor:
        """Return the total variation of an image.

        Args:
            y_fake: The generated image, (N, C, H, W), floating point, in any range.

        Returns:
            The loss, in float32, or in float64 for an image in float64.

        Raises:
            ValueError: If the shape is not (N, C, H, W).
            TypeError: If the image is not of a floating-point dtype.
        """
        check_images("TotalVariation", y_fake=y_fake)
        image = y_fake.to(torch.promote_types(y_fake.dtype, torch.float32))
        return _mean_difference(image, 3) + _mean_difference(image, 2)


def _mean_difference(image: Tensor, dimension: int) -> Tensor:
    differences = image.diff(dim=dimension).abs()
    return differences.sum() / max(differences.numel(), 1)
