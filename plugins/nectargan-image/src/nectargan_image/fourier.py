"""The Fourier transform of the difference of two images, and the L1 distance of spectra as a module."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from nectargan_core import check_images

Norm = Literal["backward", "ortho", "forward"]


# The transform is linear and its input real: one transform of the difference, of half of the frequencies, does for two
# transforms of all of them. Each frequency that is left out has the conjugate value of one that is there.
def spectrum(difference: Tensor, norm: Norm, rows: int = -2) -> Tensor:
    """Return the real and the imaginary part of each frequency, for half of the frequencies of the last dimension.

    Args:
        difference: A real tensor, in float32 or float64.
        norm: The normalisation, as in `torch.fft`.
        rows: The dimension that is transformed besides the last.

    Example:
        >>> import torch
        >>> spectrum(torch.ones(1, 3, 4, 4), "ortho").shape
        torch.Size([1, 3, 4, 3, 2])
    """
    return torch.view_as_real(torch.fft.rfft2(difference, dim=(rows, -1), norm=norm))


def mean_of_all(columns: Tensor, width: int, count: int) -> Tensor:
    """Return the mean over all frequencies of a map of which half was computed.

    Args:
        columns: The sums of the map, by the column of the half: width // 2 + 1 numbers.
        width: The number of columns of the whole.
        count: The number of elements of the whole map.

    Example:
        >>> import torch
        >>> mean_of_all(torch.tensor([4.0, 4.0, 4.0]), width=4, count=16)
        tensor(1.)
    """
    total = 2 * columns.sum() - columns[0]
    if width % 2 == 0:
        total = total - columns[-1]
    return total / count


class FFT(nn.Module):
    """Mean absolute difference of the discrete Fourier transforms of two images, over real and imaginary parts.

    With F the two-dimensional transform of each channel, it is the mean of abs(Re F(d)) and abs(Im F(d)) over all
    frequencies, where d = y_fake - y. The transform is linear, so that the loss has the unit of the images: images from
    -1 to 1 give twice the loss of the same images from 0 to 1. Without normalisation the loss also grows with the
    square root of the number of pixels. Half-precision images are computed in float32, under autocast too.

    Args:
        norm: The normalisation of the transform: `"backward"` for none, `"ortho"` for division by sqrt(H·W), with which
            the loss does not grow with the size, `"forward"` for division by H·W.

    Raises:
        ValueError: If `norm` is none of these.

    Example:
        >>> import torch
        >>> y_fake, y = torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
        >>> FFT()(y_fake, y)  # 64 at one of 64 frequencies, of which each has two parts
        tensor(0.5000)

    Source: Cho, Ji, Hong, Jung and Ko, "Rethinking Coarse-to-Fine Approach in Single Image Deblurring", ICCV 2021:
    the multi-scale frequency reconstruction loss, of one scale. It has the weight 0.1 there, for images from 0 to 1;
    the authors' code takes the mean, too.
    """

    def __init__(self, *, norm: Norm = "backward") -> None:
        super().__init__()
        if norm not in ("backward", "ortho", "forward"):
            raise ValueError(f'FFT: norm is "backward", "ortho" or "forward", got {norm!r}')
        self.norm: Norm = norm

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        """Compare the spectra of two images.

        Args:
            y_fake: The generated image, (N, C, H, W), floating point, in any range.
            y: The target, of the same shape.

        Returns:
            The loss, in float32, or in float64 for images in float64.

        Raises:
            ValueError: If the shapes differ, or are not (N, C, H, W).
            TypeError: If an image is not of a floating-point dtype.
        """
        check_images("FFT", y_fake=y_fake, y=y)
        precise = torch.promote_types(torch.promote_types(y_fake.dtype, y.dtype), torch.float32)
        difference = y_fake.to(precise) - y.to(precise)
        if not difference.is_cpu:
            # Few kernels are faster there than half of the work.
            return torch.view_as_real(torch.fft.fft2(difference, norm=self.norm)).abs().mean()
        columns = spectrum(difference, self.norm).abs().sum((0, 1, 2, 4))
        return mean_of_all(columns, difference.shape[-1], 2 * difference.numel())

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return f"norm={self.norm!r}"
