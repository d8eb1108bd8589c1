"""The locally discriminative learning loss, LDL, as a module."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor, nn

from nectargan_core import check_images
from nectargan_image.arguments import image_range


class LDL(nn.Module):
    """Mean absolute error, weighted by how much each pixel looks like an artifact.

    The residual r of a pixel is the sum over the channels of abs(y - y_fake). The weight of a pixel is the variance of
    r in a window around it, times the fifth root of the variance of r over the whole image. It is 0 where r is less
    than the residual of `y_ema`: what the exponential moving average of the generator does worse is no artifact. The
    loss is the mean over pixels and channels of weight times abs(y - y_fake). As in the authors' code, the gradient
    flows through the weights, too. Where the variance over the image is 0, as for equal images, its fifth root has a
    gradient of 0 here. Half-precision images are computed in float32, under autocast too.

    Args:
        ksize: Height and width of the window, an odd number of pixels, at least 3. Height and width of the images are
            greater than half of it.
        input_range: The values of black and white. The images are scaled to a range of length 1, for which the authors'
            weights are made: with s times the range, the loss would be s^3.4 times as large.

    Raises:
        TypeError: If `ksize` is no integer, or `input_range` no pair of numbers.
        ValueError: If `ksize` is even or below 3, or `input_range` is not ascending and finite.

    Example:
        >>> import torch
        >>> y = torch.zeros(1, 3, 8, 8)
        >>> y_fake, y_ema = y.clone(), y.clone()
        >>> y_fake[..., 4, 4] = 1.0
        >>> LDL()(y_fake, y, y_ema) > 0, LDL()(y_fake, y, y_ema=-y_fake) > 0
        (tensor(True), tensor(True))
        >>> LDL()(y_fake, y, y_ema=2 * y_fake)
        tensor(0.)

    Source: Liang, Zeng and Zhang, "Details or Artifacts: A Locally Discriminative Learning Approach to Realistic Image
    Super-Resolution", CVPR 2022; windows of 7 by 7 and a weight of 1 are those of the authors' code.
    """

    def __init__(self, *, ksize: int = 7, input_range: tuple[float, float] = (-1.0, 1.0)) -> None:
        super().__init__()
        if isinstance(ksize, bool) or not isinstance(ksize, int):
            raise TypeError(f"LDL: ksize is an odd integer, at least 3, got {ksize!r}")
        if ksize < 3 or ksize % 2 == 0:
            raise ValueError(f"LDL: ksize is an odd integer, at least 3, got {ksize!r}")
        self.ksize = ksize
        self.input_range = image_range("LDL", input_range)

    def forward(self, y_fake: Tensor, y: Tensor, y_ema: Tensor) -> Tensor:
        """Compare two images where the first has artifacts.

        Args:
            y_fake: The generated image, (N, C, H, W), floating point.
            y: The target, of the same shape.
            y_ema: What the exponential moving average of the generator makes of the same source, of the same shape; it
                gets no gradient.

        Returns:
            The loss, in float32, or in float64 for images in float64.

        Raises:
            ValueError: If the shapes differ, are not (N, C, H, W), or height or width are too small for the window.
            TypeError: If an image is not of a floating-point dtype.
        """
        check_images("LDL", y_fake=y_fake, y=y, y_ema=y_ema)
        margin = self.ksize // 2
        if min(y.shape[-2:]) <= margin:
            raise ValueError(
                f"LDL with a ksize of {self.ksize} expects images with more than {margin} pixels in each direction; "
                f"they are {tuple(y.shape)}: give larger images or a smaller ksize"
            )
        precise = torch.promote_types(torch.promote_types(y_fake.dtype, y.dtype), torch.float32)
        low, high = self.input_range
        y = y.to(precise)
        residual = (y - y_fake.to(precise)).abs().sum(1, keepdim=True) / (high - low)
        with torch.no_grad():
            of_average = (y - y_ema.to(precise)).abs().sum(1, keepdim=True) / (high - low)
            counts = residual >= of_average
        weights = _fifth_root(residual.var((1, 2, 3), keepdim=True)) * _local_variance(residual, self.ksize)
        return (weights * residual * counts).mean() / y.shape[1]

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return f"ksize={self.ksize}, input_range={self.input_range}"


def _fifth_root(variance: Tensor) -> Tensor:
    # The derivative of the root is infinite at 0.
    some = variance > 0
    return torch.where(some, variance, 1.0) ** 0.2 * some


# The variance in a window is the mean of the variances of its rows, plus the variance of their means: 2·k numbers a
# pixel in the place of k². A mean of squares less the square of a mean would lose a small variance to rounding.
# On a CPU, `torch.var` of unfolded windows takes several times as long as sums of shifted images; on a GPU it is one
# kernel in the place of a hundred.
def _local_variance(image: Tensor, size: int) -> Tensor:
    """Return the unbiased variance in a square window around each pixel; the image goes on mirrored at its edges."""
    margin = size // 2
    padded = F.pad(image, (margin, margin, margin, margin), mode="reflect")
    return _variance_of_rows(padded, size) if image.is_cpu else _variance_of_windows(padded, size)


def _variance_of_windows(padded: Tensor, size: int) -> Tensor:
    return padded.unfold(2, size, 1).unfold(3, size, 1).var((-2, -1))


def _variance_of_rows(padded: Tensor, size: int) -> Tensor:
    rows = _shifted(padded, size, 3)
    means = _mean(rows)
    within = _shifted(_variance(rows, means), size, 2)
    means_down = _shifted(means, size, 2)
    variance = _mean(within) + _variance(means_down, _mean(means_down))
    return variance * (size**2 / (size**2 - 1))


def _shifted(image: Tensor, size: int, dimension: int) -> list[Tensor]:
    length = image.shape[dimension] - size + 1
    return [image.narrow(dimension, start, length) for start in range(size)]


def _mean(images: list[Tensor]) -> Tensor:
    total = images[0]
    for image in images[1:]:
        total = total + image
    return total / len(images)


def _variance(images: list[Tensor], mean: Tensor) -> Tensor:
    return _mean([(image - mean).square() for image in images])
