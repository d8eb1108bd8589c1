"""How near an image is to its target, beside the PSNR that the report of a training has."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from skimage.metrics import structural_similarity
from torch import Tensor


def ssim(image: Tensor, target: Tensor) -> float:
    """Return the structural similarity of two images, at most 1, as the paper defines it.

    Args:
        image: (3, H, W), from -1 to 1, each side at least 11.
        target: The same.

    Source:
        Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity" (2004), with its window
        of 11x11 pixels; computed by scikit-image for each channel, of which the mean is taken.

    Example:
        >>> y = torch.linspace(-1, 1, 256).reshape(1, 16, 16).expand(3, 16, 16)
        >>> round(ssim(y, y), 6), ssim(-y, y) < 0
        (1.0, True)
    """
    return float(
        structural_similarity(  # type: ignore[no-untyped-call]  # untyped in scikit-image
            # It is defined for values from 0 on.
            (image.double() + 1).numpy(),
            (target.double() + 1).numpy(),
            data_range=2.0,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def detail(image: Tensor, target: Tensor) -> float:
    """Return how strong the finest detail of an image is, relative to that of its target.

    Detail is what differs from the mean of the four neighbours. 1 says that there is as much of it as in the target,
    not that it is the same: noise counts, too.

    Args:
        image: (3, H, W), each side at least 3.
        target: The same; not constant.

    Example:
        >>> y = torch.linspace(-1, 1, 256).square().reshape(1, 16, 16).expand(3, 16, 16)
        >>> round(detail(y / 2, y), 6)
        0.5
    """
    return float(_laplacian(image).abs().mean() / _laplacian(target).abs().mean())


def _laplacian(image: Tensor) -> Tensor:
    kernel = torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=image.dtype)
    return F.conv2d(image.unsqueeze(1), kernel.expand(1, 1, 3, 3))
