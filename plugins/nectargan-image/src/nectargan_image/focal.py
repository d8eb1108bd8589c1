"""The focal frequency loss as a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nectargan_core import check_images
from nectargan_image.arguments import not_negative
from nectargan_image.fourier import mean_of_all, spectrum


class FocalFrequency(nn.Module):
    """Mean squared difference of spectra, in which the frequencies that are wrong most count most.

    With F the two-dimensional orthonormal Fourier transform and e = abs(F(y_fake - y)), it is the mean of w·e² over all
    frequencies. The weight w is e^alpha, divided by its maximum over the frequencies of a channel of an image; no
    gradient flows through it. The loss has the unit of the images squared: images from -1 to 1 give four times the loss
    of the same images from 0 to 1. Half-precision images are computed in float32, under autocast too.

    Args:
        alpha: How much more a frequency counts that is more wrong; at least 0. With 0 all count alike.
        patch_factor: In how many patches the image is divided in each direction, each with a spectrum of its own; it
            divides height and width.
        ave_spectrum: Whether to compare the mean spectra of the batch.
        log_matrix: Whether to take log(1 + e^alpha) in the place of e^alpha.
        batch_matrix: Whether to divide the weights by the maximum over the whole batch.

    Raises:
        TypeError: If `alpha` is no number, or `patch_factor` no integer.
        ValueError: If `alpha` is below 0 or not finite, or `patch_factor` is below 1.

    Example:
        >>> import torch
        >>> y_fake, y = torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
        >>> FocalFrequency()(y_fake, y)  # 8² at one of 64 frequencies
        tensor(1.)

    Source: Jiang, Dai, Wu and Loy, "Focal Frequency Loss for Image Reconstruction and Synthesis", ICCV 2021; the
    arguments are those of the authors' package focal-frequency-loss.
    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        patch_factor: int = 1,
        ave_spectrum: bool = False,
        log_matrix: bool = False,
        batch_matrix: bool = False,
    ) -> None:
        super().__init__()
        self.alpha = not_negative("FocalFrequency", "alpha", alpha)
        if isinstance(patch_factor, bool) or not isinstance(patch_factor, int):
            raise TypeError(f"FocalFrequency: patch_factor is an integer, at least 1, got {patch_factor!r}")
        if patch_factor < 1:
            raise ValueError(f"FocalFrequency: patch_factor is an integer, at least 1, got {patch_factor!r}")
        self.patch_factor = patch_factor
        self.ave_spectrum = bool(ave_spectrum)
        self.log_matrix = bool(log_matrix)
        self.batch_matrix = bool(batch_matrix)

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        """Compare the spectra of two images.

        Args:
            y_fake: The generated image, (N, C, H, W), floating point, in any range.
            y: The target, of the same shape.

        Returns:
            The loss, in float32, or in float64 for images in float64.

        Raises:
            ValueError: If the shapes differ, or are not (N, C, H, W), or `patch_factor` does not divide H and W.
            TypeError: If an image is not of a floating-point dtype.
        """
        check_images("FocalFrequency", y_fake=y_fake, y=y)
        factor = self.patch_factor
        batch, channels, height, width = y.shape
        if height % factor or width % factor:
            raise ValueError(
                f"FocalFrequency: patch_factor {factor} divides the height and the width of images; they are "
                f"{height} and {width}: crop them to multiples of it"
            )
        precise = torch.promote_types(torch.promote_types(y_fake.dtype, y.dtype), torch.float32)
        difference = y_fake.to(precise) - y.to(precise)
        if self.ave_spectrum:
            difference = difference.mean(0, keepdim=True)
            batch = 1
        patches = difference.reshape(batch, channels, factor, height // factor, factor, width // factor)
        power = spectrum(patches, "ortho", rows=3).square().sum(-1)
        columns = (self._weights(power.detach()) * power).sum((0, 1, 2, 3, 4))
        return mean_of_all(columns, width // factor, difference.numel())

    def _weights(self, power: Tensor) -> Tensor:
        weights = power.sqrt() if self.alpha == 1 else power ** (self.alpha / 2)
        if self.log_matrix:
            weights = weights.log1p()
        largest = weights.amax() if self.batch_matrix else weights.amax((3, 5), keepdim=True)
        # Of equal images all weights are 0.
        return weights / largest.clamp_min(torch.finfo(weights.dtype).tiny)

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        names = ("alpha", "patch_factor", "ave_spectrum", "log_matrix", "batch_matrix")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)
