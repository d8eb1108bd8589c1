"""The Gaussian window that statistics of a pixel's surroundings are weighted by, and the means under it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor


def gaussian(size: int, sigma: float) -> tuple[float, ...]:
    """Return the weights of a Gaussian window along one dimension, the sum of which is 1.

    Args:
        size: How many weights, an odd number.
        sigma: The standard deviation in pixels, above 0.

    Example:
        >>> [round(weight, 4) for weight in gaussian(3, 1.0)]
        [0.2741, 0.4519, 0.2741]
    """
    weights = [math.exp(-((place - size // 2) ** 2) / (2 * sigma**2)) for place in range(size)]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def windowed_means(images: Sequence[Tensor], weights: tuple[float, ...]) -> Sequence[Tensor]:
    """Return, for each of several images, the mean around each pixel under a window that lies within the image.

    Args:
        images: Each (N, C, H, W), of one shape, dtype and device; float32 or float64, outside of autocast.
        weights: The weights along one dimension, symmetric; the window is their outer product.

    Returns:
        Means of the shape (N, C, H - size + 1, W - size + 1).

    Example:
        >>> windowed_means([torch.ones(1, 1, 3, 4)], (0.25, 0.5, 0.25))
        [tensor([[[[1., 1.]]]])]
    """
    if torch.compiler.is_compiling():
        # The compiler makes few operations of it, forward and backward; of a context with an attribute it would warn.
        return [_weighted(image, weights) for image in images]
    if not images[0].is_cuda or type(images[0]) is not Tensor:
        # One by one, since those of a target need no gradient.
        return [_Mean.apply(image, weights) for image in images]  # type: ignore[no-untyped-call]  # untyped in torch
    # Together, since on a GPU it takes longer to start an operation than to run it.
    return _convolved(torch.cat(tuple(images)), weights).chunk(len(images))


def _convolved(images: Tensor, weights: tuple[float, ...]) -> Tensor:
    count, channels, height, width = images.shape
    # Each image as a channel, so that there are always several: of one, a convolution would use TF32, whose rounding is
    # larger than the variances here.
    planes = count * channels
    kernel = _kernel(weights, images.dtype, images.device).expand(planes, 1, -1)
    across = F.conv2d(images.reshape(1, planes, height, width), kernel[:, :, None], groups=planes)
    return F.conv2d(across, kernel[..., None], groups=planes).view(
        count, channels, height - len(weights) + 1, width - len(weights) + 1
    )


# Made once, since a copy to the device would have to be waited for.
@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _kernel(weights: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(weights, dtype=dtype, device=device)


def _along(images: Tensor, weights: tuple[float, ...], dim: int) -> Tensor:
    size = len(weights)
    length = images.shape[dim] - size + 1
    result = images.narrow(dim, 0, length) * weights[0]
    for place in range(1, size):
        result.add_(images.narrow(dim, place, length), alpha=weights[place])
    return result


def _weighted(images: Tensor, weights: tuple[float, ...]) -> Tensor:
    return _along(_along(images, weights, -2), weights, -1)


# On the CPU a convolution of each channel by itself takes some ten times as long as these sums. With autograd's own
# derivative each slice would allocate an image of zeros. The operator is linear and its window symmetric, so that its
# transpose is the same sum over an image with a border of zeros, and needs no saved tensor.
class _Mean(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, weights: tuple[float, ...]) -> Tensor:
        return _weighted(images, weights)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, tuple[float, ...]], output: Tensor) -> None:
        ctx.weights = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _MeanTransposed.apply(gradient, ctx.weights), None  # type: ignore[no-untyped-call]  # untyped in torch


class _MeanTransposed(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, weights: tuple[float, ...]) -> Tensor:
        border = len(weights) - 1
        return _weighted(F.pad(gradient, (border, border, border, border)), weights)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, tuple[float, ...]], output: Tensor) -> None:
        ctx.weights = inputs[1]

    @staticmethod
    def backward(ctx: Any, images: Tensor) -> Any:
        return _Mean.apply(images, ctx.weights), None  # type: ignore[no-untyped-call]  # untyped in torch
