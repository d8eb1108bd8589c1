"""The losses of nectargan-image, forward and backward, beside what people use for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from beside import Pair, attribute, images, library, rows_of
from losses_lpips import piq
from nectargan_charbonnier import Charbonnier
from nectargan_image import (
    FFT,
    L1,
    L2,
    LDL,
    Color,
    FocalFrequency,
    Huber,
    SmoothL1,
    TotalVariation,
    Wavelet,
)
from nectargan_image.wavelets import _LOW_PASS
from table import Row
from torch import Tensor, nn

TO_XYZ = (
    (0.41239079926595, 0.35758433938387, 0.18048078840183),
    (0.21263900587151, 0.71516867876775, 0.072192315360733),
    (0.019330818715591, 0.11919477979462, 0.95053215224966),
)
FROM_XYZ = torch.linalg.inv(torch.tensor(TO_XYZ, dtype=torch.float64)).tolist()


def masked_l1(y_fake: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Compute the masked L1 loss as it is usually written."""
    return ((y_fake - y).abs() * mask).sum() / (mask.sum() * y.shape[1])


def plain_fft(y_fake: Tensor, y: Tensor) -> Tensor:
    """Compare the real and imaginary parts of two transforms."""
    first, second = (torch.view_as_real(torch.fft.fft2(image)) for image in (y_fake, y))
    return F.l1_loss(first, second)


def plain_ldl(y_fake: Tensor, y: Tensor, y_ema: Tensor) -> Tensor:
    """Compute LDL with each window written out."""
    residual, of_average = ((y - image).abs().sum(1, keepdim=True) for image in (y_fake, y_ema))
    windows = F.pad(residual, (3, 3, 3, 3), mode="reflect").unfold(2, 7, 1).unfold(3, 7, 1)
    weights = residual.var((1, 2, 3), keepdim=True) ** 0.2 * windows.var((-2, -1))
    weights = weights * (residual >= of_average)
    return F.l1_loss(weights * y_fake, weights * y)


def plain_wavelet(y_fake: Tensor, y: Tensor) -> Tensor:
    """Convolve the luma of both images with the filters."""
    low = torch.tensor(_LOW_PASS["sym19"], device=y.device)
    high = low.flip(0) * low.new_tensor([-1.0, 1.0]).repeat(19)
    filters = torch.stack([low / low.sum(), high]).flip(1)[:, None]

    def bands(image: Tensor) -> Tensor:
        red, green, blue = image.unbind(1)
        luma = F.pad((16 + 65.481 * red + 128.553 * green + 24.966 * blue)[:, None], (18, 19, 18, 19), mode="circular")
        return F.conv2d(F.conv2d(luma, filters[:, :, None]), filters[..., None].repeat(2, 1, 1, 1), groups=2)

    differences = (bands(y_fake) - bands(y)).abs().mean((0, 2, 3))
    total: Tensor = (differences * low.new_tensor([0.05, 0.025, 0.025, 0.02])).sum()
    return total


def plain_hsluv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Convert to HSLuv with the six lines that bound sRGB, as its reference does."""
    encoded = image.clamp(1e-12, 1)
    linear = torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    x, y, z = torch.einsum("nchw,dc->dnhw", linear, linear.new_tensor(TO_XYZ))
    lightness = torch.where(y > 0.0088564516, 116 * y ** (1 / 3) - 16, y * 903.2962962)
    divisor = x + 15 * y + 3 * z
    u, v = 13 * lightness * (4 * x / divisor - 0.19783000664283), 13 * lightness * (9 * y / divisor - 0.46831999493879)
    hue, chroma = torch.atan2(v, u), torch.sqrt(u**2 + v**2 + 1e-12)
    lengths = []
    for m1, m2, m3 in FROM_XYZ:
        for end in (0, 1):
            top1 = (284517 * m1 - 94839 * m3) * y
            top2 = (838422 * m3 + 769860 * m2 + 731718 * m1) * lightness * y - 769860 * end * lightness
            bottom = (632260 * m3 - 126452 * m2) * y + 126452 * end
            length = top2 / bottom / (torch.sin(hue) - top1 / bottom * torch.cos(hue))
            lengths.append(torch.where(length >= 0, length, math.inf))
    largest = torch.stack(lengths).amin(0)
    return hue / (2 * math.pi) % 1, (chroma / largest.clamp_min(1e-2)).clamp(0, 1), lightness / 100


def plain_color(y_fake: Tensor, y: Tensor) -> Tensor:
    """Compute the components hue, saturation and lightness as traiNNer-redux does."""
    (h1, s1, l1), (h2, s2, l2) = plain_hsluv(y_fake), plain_hsluv(y)
    hue = 2 * torch.minimum((h1 - h2).abs(), 1 - (h1 - h2).abs())
    hue = torch.where((s1 < 0.1) != (s2 < 0.1), torch.maximum(s1, s2), hue)
    alike = ((s1 < 0.1) & (s2 < 0.1)) | ((l1 < 0.1) & (l2 < 0.1)) | ((l1 > 0.9) & (l2 > 0.9))
    counts = torch.minimum(l1, 1 - l1) + torch.minimum(l2, 1 - l2)
    hue = torch.where(alike, 0.0, hue).mean()
    total: Tensor = (hue + ((s1 - s2).abs() * counts).mean() + (l1 - l2).abs().mean()) / 3
    return total


def plain_charbonnier(y_fake: Tensor, y: Tensor) -> Tensor:
    """Compute the Charbonnier loss as BasicSR does."""
    return torch.sqrt((y_fake - y) ** 2 + 1e-12).mean()


def masked(batch: int) -> Sequence[Tensor]:
    """Make two images and a mask."""
    mask = torch.rand(batch, 1, 256, 256, generator=torch.Generator().manual_seed(1)) > 0.5
    return [*images(0.0, 1.0)(batch), mask.float()]


def variation(loss: Callable[..., Tensor] | None) -> Callable[[Tensor], Tensor] | None:
    """Return kornia's total variation with its mean over the images."""
    return None if loss is None else lambda y_fake: loss(y_fake, reduction="mean").mean()


def pairs() -> list[Pair]:
    """Return each loss beside what people use for it."""
    pair, one, three = (images(0.0, 1.0, count) for count in (2, 1, 3))
    kornia = library("kornia.losses")
    focal = attribute(library("focal_frequency_loss"), "FocalFrequencyLoss")
    of_kornia = attribute(kornia, "CharbonnierLoss")
    quality = piq()
    return [
        Pair("l1", "torch", nn.L1Loss(), L1(), pair),
        Pair("l2", "torch", nn.MSELoss(), L2(), pair),
        Pair("huber", "torch", nn.HuberLoss(), Huber(), pair),
        Pair("smooth-l1", "torch", nn.SmoothL1Loss(), SmoothL1(), pair),
        Pair("l1:masked", "definition", masked_l1, L1(), masked),
        Pair("charbonnier", "the code of BasicSR", plain_charbonnier, Charbonnier(epsilon=1e-6), pair),
        Pair(
            "charbonnier",
            "kornia (another formula)",
            None if of_kornia is None else of_kornia(reduction="mean"),
            Charbonnier(),
            pair,
        ),
        Pair("tv", "kornia", variation(attribute(kornia, "total_variation")), TotalVariation(), one),
        Pair("tv", "piq (sums)", None if quality is None else quality.TVLoss(norm_type="l1"), TotalVariation(), one),
        Pair("fft", "definition", plain_fft, FFT(), pair),
        Pair("focal-frequency", "the authors' package", None if focal is None else focal(), FocalFrequency(), pair),
        Pair("wavelet", "definition", plain_wavelet, Wavelet(input_range=(0, 1)), pair),
        Pair("color", "HSLuv by its reference", plain_color, Color(luma=0, input_range=(0, 1)), pair),
        Pair("ldl", "definition", plain_ldl, LDL(input_range=(0, 1)), three),
    ]


def rows() -> Iterator[Row]:
    """Yield a row for each loss."""
    return rows_of(pairs())
