"""SSIM and MS-SSIM, forward and backward, beside the packages that people use for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from beside import Pair, attribute, images, library, rows_of
from losses_lpips import piq
from nectargan_ssim import MSSSIM, SSIM
from table import Row
from torch import Tensor


def dissimilarity(similarity: Callable[..., Any] | None) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return 1 minus a similarity of images from 0 to 1; None for None."""
    return None if similarity is None else lambda y_fake, y: 1 - similarity(y_fake, y, data_range=1.0)


def pairs() -> list[Pair]:
    """Return both losses beside each package."""
    msssim = library("pytorch_msssim")
    metrics = library("torchmetrics.functional.image")
    kornia = library("kornia.losses")
    quality = piq()
    of_kornia = attribute(kornia, "SSIMLoss")
    losses = (
        ("ssim", "pytorch-msssim", SSIM, dissimilarity(attribute(msssim, "ssim"))),
        ("ssim", "torchmetrics", SSIM, dissimilarity(attribute(metrics, "structural_similarity_index_measure"))),
        ("ssim", "kornia (half of it)", SSIM, None if of_kornia is None else of_kornia(11)),
        ("ssim", "piq", SSIM, None if quality is None else quality.SSIMLoss(downsample=False)),
        ("ms-ssim", "pytorch-msssim", MSSSIM, dissimilarity(attribute(msssim, "ms_ssim"))),
        (
            "ms-ssim",
            "torchmetrics",
            MSSSIM,
            dissimilarity(attribute(metrics, "multiscale_structural_similarity_index_measure")),
        ),
        ("ms-ssim", "piq", MSSSIM, None if quality is None else quality.MultiScaleSSIMLoss()),
    )
    return [Pair(name, of, theirs, ours(input_range=(0.0, 1.0)), images(0.0, 1.0)) for name, of, ours, theirs in losses]


def rows() -> Iterator[Row]:
    """Yield a row for each loss."""
    return rows_of(pairs())
