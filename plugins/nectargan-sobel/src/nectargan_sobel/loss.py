"""The Sobel loss as a module: the L1 distance between the edges of two images."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor, nn

from nectargan_core import check_images


def _across(padded: Tensor) -> Tensor:
    """Correlate with [[1, 0, -1], [2, 0, -2], [1, 0, -1]]: smooth downwards, then subtract across."""
    smooth = (padded[..., :-2, :] + padded[..., 2:, :]).add_(padded[..., 1:-1, :], alpha=2)
    return smooth[..., :-2] - smooth[..., 2:]


def _down(padded: Tensor) -> Tensor:
    """Correlate with [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]: smooth across, then subtract downwards."""
    smooth = (padded[..., :-2] + padded[..., 2:]).add_(padded[..., 1:-1], alpha=2)
    return smooth[..., :-2, :] - smooth[..., 2:, :]


# On the CPU a convolution of one channel takes some twenty times as long as these sums, and its backward even longer;
# on a GPU it would use TF32. With autograd's own derivative, each slice would allocate an image of zeros. The operator
# is linear, so that its derivative is its transpose and needs no saved tensor; both kernels are odd, so that the
# transpose is the negative.
class _Gradients(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(grey: Tensor) -> tuple[Tensor, Tensor]:
        padded = F.pad(grey, (1, 1, 1, 1))
        return _across(padded), _down(padded)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, across: Tensor, down: Tensor) -> Any:
        return _GradientsTransposed.apply(across, down)  # type: ignore[no-untyped-call]  # untyped in torch


class _GradientsTransposed(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(across: Tensor, down: Tensor) -> Tensor:
        return _across(F.pad(across, (1, 1, 1, 1))).add_(_down(F.pad(down, (1, 1, 1, 1)))).neg_()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grey: Tensor) -> Any:
        return _Gradients.apply(grey)  # type: ignore[no-untyped-call]  # untyped in torch


def _magnitude(image: Tensor, dtype: torch.dtype) -> Tensor:
    grey = image.mean(1, keepdim=True, dtype=dtype)
    across, down = _Gradients.apply(grey)  # type: ignore[no-untyped-call]  # untyped in torch
    return torch.sqrt(across.square() + down.square() + 1e-6)


class Sobel(nn.Module):
    """L1 distance between the Sobel gradient magnitudes of two images.

    Each image becomes grey (the mean over its channels), is correlated with the two 3x3 Sobel kernels under a
    zero padding of 1, and gives the map sqrt(gx² + gy² + 1e-6); the loss is the absolute difference of the
    two maps. Half-precision images are computed in float32, under autocast too. The module has no parameters
    and no buffers: it works on the device of its images. Nothing that depends on the target alone is kept for the
    backward pass, unless the target itself requires a gradient.

    Args:
        reduction: `"mean"`, `"sum"`, or `"none"` for the map of shape (N, 1, H, W).

    Raises:
        ValueError: If `reduction` is none of these.

    Source:
        Sobel and Feldman's operator of 1968, as I. Sobel, "An Isotropic 3x3 Image Gradient Operator" (2014).

    Example:
        >>> import torch
        >>> y = torch.zeros(1, 3, 8, 8)
        >>> y_fake = y.clone()
        >>> y_fake[..., 4:] = 1.0
        >>> Sobel()(y_fake, y) > 0, Sobel()(y, y) == 0
        (tensor(True), tensor(True))
    """

    def __init__(self, reduction: Literal["mean", "sum", "none"] = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f'Sobel: reduction is "mean", "sum" or "none", not {reduction!r}')
        self.reduction = reduction

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        """Compare the edges of two images.

        Args:
            y_fake: The generated image, (N, C, H, W), floating point, any range and number of channels.
            y: The target, of the same shape.

        Returns:
            The loss, or the map, in float32, or in float64 for images in float64.

        Raises:
            ValueError: If the shapes differ, or are not (N, C, H, W); if the images are on different devices.
            TypeError: If an image is no tensor of a floating-point dtype.
        """
        check_images("Sobel", y_fake=y_fake, y=y)
        precise = torch.promote_types(torch.promote_types(y_fake.dtype, y.dtype), torch.float32)
        loss = (_magnitude(y_fake, precise) - _magnitude(y, precise)).abs()
        if self.reduction == "mean":
            loss = loss.mean()
        elif self.reduction == "sum":
            loss = loss.sum()
        return loss

    def extra_repr(self) -> str:
        """Show the reduction where the module is printed."""
        return f"reduction={self.reduction!r}"
