"""SSIM and multi-scale SSIM as losses: 1 minus the structural similarity of two images, as modules."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor, nn

from nectargan_core import check_images
from nectargan_ssim.window import gaussian, windowed_means

Reduction: TypeAlias = Literal["mean", "sum", "none"]
Padding: TypeAlias = Literal["valid", "zeros"]
Average: TypeAlias = Literal["channel", "batch"]

# K1 and K2 of the paper, of which the constants that keep the quotients from 0/0 are made.
_K1, _K2 = 0.01, 0.03
# From the finest scale to the coarsest: table 1 of the paper.
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


class _SimilarityLoss(nn.Module):
    """Base of both losses: the window, the range of the images, the distances of two images, the reduction."""

    def __init__(
        self, window_size: int, sigma: float, input_range: tuple[float, float], reduction: Reduction, padding: Padding
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if isinstance(window_size, bool) or not isinstance(window_size, int) or window_size < 3 or not window_size % 2:
            raise ValueError(f"{name}: window_size is an odd number of pixels, at least 3, not {window_size!r}")
        if not _is_number(sigma) or not 0 < sigma < math.inf:
            raise ValueError(f"{name}: sigma is a number of pixels above 0, not {sigma!r}")
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f'{name}: reduction is "mean", "sum" or "none", not {reduction!r}')
        if padding not in ("valid", "zeros"):
            raise ValueError(f'{name}: padding is "valid" or "zeros", not {padding!r}')
        self.window_size = window_size
        self.sigma = float(sigma)
        self.input_range = _checked_range(name, input_range)
        self.reduction = reduction
        self.padding = padding
        self._weights = gaussian(window_size, self.sigma)

    def _distances(self, y_fake: Tensor, y: Tensor, luminance: bool) -> tuple[Tensor, Tensor | None]:
        """Return half of how far the structure of two images differs, by pixel, and, if asked for, their luminance.

        These are (1 - cs) / 2 and (1 - l) / 2, where cs = (2 cov + C2) / (v + v' + C2) and l = (2 m m' + C1) / (m² +
        m'² + C1). In terms of the sum s and the difference d of the images they are var(d) / (var(s) + var(d) + 2 C2)
        and m(d)² / (m(s)² + m(d)² + 2 C1): nothing cancels where the images are alike, and four means are needed, not
        five, of which that of the target has no gradient.
        """
        low, high = self.input_range
        if self.padding == "zeros":
            margin = self.window_size // 2
            y_fake, y = (F.pad(image - low, (margin, margin, margin, margin)) for image in (y_fake, y))
            low, high = 0.0, high - low
        images = [y_fake, y, (y_fake + y).square(), (y_fake - y).square()]
        mean, mean_y, square_of_total, square_of_difference = windowed_means(images, self._weights)
        mean_of_total = mean + mean_y
        squared_difference = (mean - mean_y).square()
        of_total = square_of_total - mean_of_total.square()
        of_difference = square_of_difference - squared_difference
        structure = of_difference / (of_total + of_difference).add_(2 * (_K2 * (high - low)) ** 2)
        if not luminance:
            return structure, None
        # SSIM is defined for values from 0 on.
        squared_total = (mean_of_total - 2 * low if low else mean_of_total).square()
        return structure, squared_difference / (squared_total + squared_difference).add_(2 * (_K1 * (high - low)) ** 2)

    def _reduced(self, losses: Tensor) -> Tensor:
        """Reduce losses, the first dimension of which are the samples."""
        if self.reduction == "mean":
            return losses.mean()
        losses = losses.flatten(1).mean(1)
        return losses.sum() if self.reduction == "sum" else losses

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name in ("window_size", "sigma", "input_range", "scale_weights", "reduction", "padding", "average")
            if hasattr(self, name)
        )


class SSIM(_SimilarityLoss):
    """1 minus the structural similarity (SSIM) of two images: 0 where they are equal, at most 2.

    Around each pixel, and in each channel, means, variances and covariance are taken under a Gaussian window that lies
    within the image, of values from which `input_range[0]` is subtracted. Let m and v be the mean and the variance of
    one image, m' and v' those of the other, c the covariance, L the width of `input_range`, C1 = (0.01 L)² and C2 =
    (0.03 L)². Then

        SSIM = (2 m m' + C1) (2 c + C2) / ((m² + m'² + C1) (v + v' + C2)),

    and the loss is 1 minus the mean of that over pixels, channels and samples. Half-precision images are computed in
    float32, under autocast too. The module has no parameters and no buffers: it works on the device of its images.

    Args:
        window_size: Height and width of the window in pixels, odd, at least 3. Images must not be smaller.
        sigma: Standard deviation of the window in pixels, above 0.
        input_range: The values that stand for black and white in the images.
        reduction: `"mean"` or `"sum"` over the samples, or `"none"` for one value per sample, shape (N,).
        padding: `"valid"` for windows that lie within the image, or `"zeros"` for a window around each pixel, where the
            image goes on in black beyond its edges, as in `pytorch-ssim`.

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image Quality Assessment: From Error Visibility to
        Structural Similarity", IEEE Transactions on Image Processing 13 (2004), equations 13 to 17, with its window of
        11x11 pixels and sigma of 1.5.

    Example:
        >>> import torch
        >>> y = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
        >>> SSIM()(y, y).item(), SSIM()(-y, y).item() > 1
        (0.0, True)
    """

    def __init__(
        self,
        window_size: int = 11,
        sigma: float = 1.5,
        input_range: tuple[float, float] = (-1.0, 1.0),
        reduction: Reduction = "mean",
        padding: Padding = "valid",
    ) -> None:
        super().__init__(window_size, sigma, input_range, reduction, padding)

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        """Compare two images.

        Args:
            y_fake: The generated image, (N, C, H, W), floating point, any number of channels, values in `input_range`.
            y: The target, of the same shape.

        Returns:
            The loss, or one value per sample, in float32, or in float64 for images in float64.

        Raises:
            ValueError: If the shapes differ, are not (N, C, H, W), or are smaller than the window; if the images are on
                different devices.
            TypeError: If an image is no tensor of a floating-point dtype.
        """
        check_images("SSIM", y_fake=y_fake, y=y)
        if self.padding == "valid":
            _check_size("SSIM", y, self.window_size, f"a window of {self.window_size}", "a smaller window_size")
        precise = torch.promote_types(torch.promote_types(y_fake.dtype, y.dtype), torch.float32)
        with _without_autocast(y.device.type):
            structure, luminance = self._distances(y_fake.to(precise), y.to(precise), luminance=True)
            return self._reduced(_joined(structure, luminance)).mul(2)


class MSSSIM(_SimilarityLoss):
    """1 minus the multi-scale structural similarity (MS-SSIM) of two images: 0 where they are equal, at most 1.

    At each scale the contrast and structure cs = (2 c + C2) / (v + v' + C2) of `SSIM` are averaged over the pixels, and
    each further scale has the images at half the size, averaged over 2x2 pixels (a last odd row or column is left out).
    At the coarsest scale the whole of SSIM takes the place of cs. The similarity of an image, in each channel, is the
    product of these means, each to the power of the weight of its scale; the loss is 1 minus its mean over channels and
    samples. A power of a negative mean does not exist: where one is negative, the similarity is 0 and there is no
    gradient, so that a training that begins with noise needs another loss beside this one, such as L1.

    Half-precision images are computed in float32, under autocast too. The module has no parameters and no buffers: it
    works on the device of its images.

    Args:
        window_size: Height and width of the window in pixels, odd, at least 3. With five scales, images must have 16
            times as many pixels in height and width.
        sigma: Standard deviation of the window in pixels, above 0.
        input_range: The values that stand for black and white in the images.
        scale_weights: The weight of each scale, from the finest to the coarsest, above 0, one at least. Those of the
            paper have the sum 1.
        reduction: `"mean"` or `"sum"` over the samples, or `"none"` for one value per sample, shape (N,).
        padding: `"valid"` for windows that lie within the image, or `"zeros"` for a window around each pixel, where the
            image goes on in black beyond its edges. Images may then be as small as a pixel at the coarsest scale.
        average: What is raised to a power: `"channel"` for the mean of each channel of each sample, or `"batch"` for
            one mean over all of them, which takes a `reduction` of `"mean"`. With `padding="zeros"`, it is the
            `mssim_loss` of neosr for images whose sizes are divisible by 16.

    Raises:
        ValueError: If an argument is none of these.

    Source:
        Z. Wang, E. P. Simoncelli and A. C. Bovik, "Multiscale Structural Similarity for Image Quality Assessment",
        Asilomar Conference on Signals, Systems and Computers 2003, equation 7 and the weights of section 3.2. As a
        loss: H. Zhao, O. Gallo, I. Frosio and J. Kautz, "Loss Functions for Image Restoration with Neural Networks",
        IEEE Transactions on Computational Imaging 3 (2017), which adds L1.

    Example:
        >>> import torch
        >>> y = torch.linspace(-1, 1, 1024).reshape(1, 1, 32, 32)
        >>> loss = MSSSIM(scale_weights=(0.4, 0.6))
        >>> loss(y, y).item(), 0 < loss(0.5 * y, y).item() < 1, loss(-y, y).item()
        (0.0, True, 1.0)
    """

    def __init__(
        self,
        window_size: int = 11,
        sigma: float = 1.5,
        input_range: tuple[float, float] = (-1.0, 1.0),
        scale_weights: Sequence[float] = _SCALE_WEIGHTS,
        reduction: Reduction = "mean",
        padding: Padding = "valid",
        average: Average = "channel",
    ) -> None:
        super().__init__(window_size, sigma, input_range, reduction, padding)
        self.scale_weights = _checked_weights(scale_weights)
        if average not in ("channel", "batch"):
            raise ValueError(f'MSSSIM: average is "channel" or "batch", not {average!r}')
        if average == "batch" and reduction != "mean":
            raise ValueError(
                f'MSSSIM: average="batch" gives one value for all samples, and reduction={reduction!r} needs one for '
                'each; use average="channel"'
            )
        self.average = average

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        """Compare two images.

        Args:
            y_fake: The generated image, (N, C, H, W), floating point, any number of channels, values in `input_range`.
            y: The target, of the same shape.

        Returns:
            The loss, or one value per sample, in float32, or in float64 for images in float64.

        Raises:
            ValueError: If the shapes differ, are not (N, C, H, W), or are too small for the scales; if the images are
                on different devices.
            TypeError: If an image is no tensor of a floating-point dtype.
        """
        check_images("MSSSIM", y_fake=y_fake, y=y)
        scales = len(self.scale_weights)
        needed = f"{scales} scale{'s' * (scales > 1)}"
        if self.padding == "valid":
            advice = 'fewer scale_weights, a smaller window_size, padding="zeros"'
            needed = f"a window of {self.window_size} and {needed}"
            _check_size("MSSSIM", y, self.window_size * 2 ** (scales - 1), needed, advice)
        else:
            _check_size("MSSSIM", y, 2 ** (scales - 1), needed, "fewer scale_weights")
        precise = torch.promote_types(torch.promote_types(y_fake.dtype, y.dtype), torch.float32)
        with _without_autocast(y.device.type):
            return self._reduced(self._loss(y_fake.to(precise), y.to(precise)))

    def _loss(self, y_fake: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each channel of each sample, (N, C)."""
        logarithm = torch.zeros(y.shape[:2], dtype=y.dtype, device=y.device)
        exists = torch.ones(y.shape[:2], dtype=torch.bool, device=y.device)
        last = len(self.scale_weights) - 1
        for scale, weight in enumerate(self.scale_weights):
            if scale:
                y_fake, y = F.avg_pool2d(y_fake, 2), F.avg_pool2d(y, 2)
            distances = _joined(*self._distances(y_fake, y, luminance=scale == last))
            distance = 2 * (distances.mean((2, 3)) if self.average == "channel" else distances.mean())
            exists = exists & (distance < 1)
            # The derivative at 1 is infinite, and would be nan times the 0 below.
            logarithm = logarithm + weight * torch.log1p(-torch.where(distance < 1, distance, 0))
        # Not 1 minus the product of powers, in which digits cancel where the images are alike.
        return torch.where(exists, -torch.expm1(logarithm), 1)


def _joined(structure: Tensor, luminance: Tensor | None) -> Tensor:
    """Return half of the distance that two halves make together: (1 - (1 - 2 structure) (1 - 2 luminance)) / 2."""
    if luminance is None:
        return structure
    return torch.addcmul(structure + luminance, structure, luminance, value=-2)


def _without_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    # torch up to 2.8 cannot trace the question, and compiled code runs where there is autocast.
    if torch.compiler.is_compiling() or torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()


def _check_size(name: str, image: Tensor, least: int, needed: str, advice: str) -> None:
    height, width = image.shape[2:]
    if height < least or width < least:
        raise ValueError(
            f"{name} expects at least {least}x{least} pixels for {needed}; these images have {height}x{width}: give it "
            f"{advice}, or larger images"
        )


def _checked_range(name: str, value: tuple[float, float]) -> tuple[float, float]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2 or not all(map(_is_number, pair)) or not -math.inf < pair[0] < pair[1] < math.inf:
        raise ValueError(f"{name}: input_range is (black, white), two numbers with black < white, not {value!r}")
    return float(pair[0]), float(pair[1])


def _checked_weights(value: Sequence[float]) -> tuple[float, ...]:
    weights = tuple(value) if isinstance(value, (tuple, list)) else ()
    if not weights or not all(_is_number(weight) and 0 < weight < math.inf for weight in weights):
        raise ValueError(
            "MSSSIM: scale_weights are numbers above 0, one for each scale from the finest to the coarsest, such as "
            f"(0.3, 0.7), not {value!r}"
        )
    return tuple(map(float, weights))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
