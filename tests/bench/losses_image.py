"""What the losses of nectargan-image cost, forward and backward, beside what people use for them."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from interleaved import medians
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
from torch import Tensor, nn

SHAPES = ((1, 3, 256, 256), (8, 3, 256, 256))
ROUNDS = 15
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
    low = torch.tensor(_LOW_PASS["sym19"])
    high = low.flip(0) * torch.tensor([-1.0, 1.0]).repeat(19)
    filters = torch.stack([low / low.sum(), high]).flip(1)[:, None]

    def bands(image: Tensor) -> Tensor:
        red, green, blue = image.unbind(1)
        luma = F.pad((16 + 65.481 * red + 128.553 * green + 24.966 * blue)[:, None], (18, 19, 18, 19), mode="circular")
        return F.conv2d(F.conv2d(luma, filters[:, :, None]), filters[..., None].repeat(2, 1, 1, 1), groups=2)

    differences = (bands(y_fake) - bands(y)).abs().mean((0, 2, 3))
    total: Tensor = (differences * torch.tensor([0.05, 0.025, 0.025, 0.02])).sum()
    return total


def plain_hsluv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Convert to HSLuv with the six lines that bound sRGB, as its reference does."""
    encoded = image.clamp(1e-12, 1)
    linear = torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    x, y, z = torch.einsum("nchw,dc->dnhw", linear, torch.tensor(TO_XYZ))
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


def packages() -> dict[str, Callable[..., Any]]:
    """Return the losses of packages that are installed, by our name for them."""
    found: dict[str, Callable[..., Any]] = {}
    for name, module in (("tv", "kornia.losses"), ("focal-frequency", "focal_frequency_loss")):
        try:
            imported = importlib.import_module(module)
        except ImportError:
            print(f"{name} is left out: pip install --no-deps {module.partition('.')[0].replace('_', '-')}")
            continue
        if name == "tv":
            found[name] = partial(mean_of, partial(imported.total_variation, reduction="mean"))
        else:
            found[name] = imported.FocalFrequencyLoss()
    return found


def mean_of(loss: Callable[..., Tensor], y_fake: Tensor) -> Tensor:
    """Compute a loss that has a value for each image."""
    return loss(y_fake).mean()


def step(loss: Callable[..., Any], y_fake: Tensor, *others: Tensor) -> None:
    """Go forward and backward once."""
    y_fake.grad = None
    result = loss(y_fake, *others)
    (sum(result.values()) if isinstance(result, dict) else result).backward()


def main() -> None:
    """Print a table of medians and ratios."""
    print("Image losses, forward + backward (CPU time of one thread, medians of interleaved runs; aim: at most 1.0)")
    installed = packages()
    print(f"{'loss':<17}{'beside':<26}{'shape':<16}{'theirs ms':>10}{'ours ms':>10}{'ours/theirs':>13}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for shape in SHAPES:
            generator = torch.Generator().manual_seed(0)
            y_fake, y, y_ema = torch.rand(3, *shape, generator=generator).unbind()
            y_fake = y_fake.clone().requires_grad_()
            mask = (torch.rand(shape[0], 1, *shape[2:], generator=generator) > 0.5).float()
            pair = (y_fake, y)
            rows: tuple[tuple[str, str, Callable[..., Any] | None, Callable[..., Any], tuple[Tensor, ...]], ...] = (
                ("l1", "torch", nn.L1Loss(), L1(), pair),
                ("l2", "torch", nn.MSELoss(), L2(), pair),
                ("huber", "torch", nn.HuberLoss(), Huber(), pair),
                ("smooth-l1", "torch", nn.SmoothL1Loss(), SmoothL1(), pair),
                ("l1:masked", "definition", masked_l1, L1(), (*pair, mask)),
                ("tv", "kornia", installed.get("tv"), TotalVariation(), (y_fake,)),
                ("fft", "definition", plain_fft, FFT(), pair),
                (
                    "focal-frequency",
                    "package of the authors",
                    installed.get("focal-frequency"),
                    FocalFrequency(),
                    pair,
                ),
                ("wavelet", "definition", plain_wavelet, Wavelet(), pair),
                ("color", "HSLuv by its reference", plain_color, Color(luma=0, input_range=(0, 1)), pair),
                ("ldl", "definition", plain_ldl, LDL(), (*pair, y_ema)),
            )
            for name, beside, theirs, ours, inputs in rows:
                if theirs is None:
                    continue
                functions = {"theirs": partial(step, theirs, *inputs), "ours": partial(step, ours, *inputs)}
                calls = 10 if beside == "torch" and shape[0] == 1 else 1
                slow, fast = medians(functions, calls=calls, rounds=ROUNDS).values()
                size = "x".join(map(str, shape))
                print(
                    f"{name:<17}{beside:<26}{size:<16}{slow * 1e3:>10.2f}{fast * 1e3:>10.2f}{fast / slow:>13.2f}",
                    flush=True,
                )
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
