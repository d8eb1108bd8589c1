"""The Laplacian loss as a module: the L1 distance between the fine detail of two images."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor, nn

from nectargan_core import check_images


# On the CPU a convolution of one channel takes some twenty times as long as these sums, and its backward even longer;
# on a GPU it would use TF32. With autograd's own derivative, each slice would allocate an image of zeros. The operator
# is linear and its kernel even, so that it is its own derivative and needs no saved tensor.
class _Laplace(torch.autograd.Function):
    """Correlate with [[0, 1, 0], [1, -4, 1], [0, 1, 0]] under a zero padding of 1."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grey: Tensor) -> Tensor:
        padded = F.pad(grey, (1, 1, 1, 1))
        result = (padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]).sub_(grey, alpha=4)
        return result.add_(padded[..., 1:-1, :-2]).add_(padded[..., 1:-1, 2:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Laplace.apply(gradient)  # type: ignore[no-untyped-call]  # untyped in torch


class Laplacian(nn.Module):
    """L1 distance between the Laplacians of two images.

    Each image becomes grey (the mean over its channels) and is correlated with [[0, 1, 0], [1, -4, 1], [0, 1,
    0]] under a zero padding of 1; the loss is the absolute difference. Because the operator is linear, it is
    applied once, to the difference of the grey images. Only that one map is kept for the backward pass, and
    nothing that depends on the target alone. Half-precision images are computed in float32, under autocast
    too. The module has no parameters and no buffers: it works on the device of its images.

    Args:
        reduction: `"mean"`, `"sum"`, or `"none"` for the map of shape (N, 1, H, W).

    Raises:
        ValueError: If `reduction` is none of these.

    Source:
        The five-point stencil of the Laplace operator: Abramowitz and Stegun, "Handbook of Mathematical
        Functions" (1964), formula 25.3.30.

    Example:
        >>> import torch
        >>> y = torch.zeros(1, 1, 3, 3)
        >>> y_fake = y.clone()
        >>> y_fake[..., 1, 1] = 1.0
        >>> Laplacian(reduction="none")(y_fake, y)
        tensor([[[[0., 1., 0.],
                  [1., 4., 1.],
                  [0., 1., 0.]]]])
    """

    def __init__(self, reduction: Literal["mean", "sum", "none"] = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f'Laplacian: reduction is "mean", "sum" or "none", not {reduction!r}')
        self.reduction = reduction

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        """Compare the fine detail of two images.

        Args:
            y_fake: The generated image, (N, C, H, W), floating point, any range and number of channels.
            y: The target, of the same shape.

        Returns:
            The loss, or the map, in float32, or in float64 for images in float64.

        Raises:
            ValueError: If the shapes differ, or are not (N, C, H, W); if the images are on different devices.
            TypeError: If an image is no tensor of a floating-point dtype.
        """
        check_images("Laplacian", y_fake=y_fake, y=y)
        precise = torch.promote_types(torch.promote_types(y_fake.dtype, y.dtype), torch.float32)
        # The mean first: the difference of all channels would be another full-size image in memory.
        grey = y_fake.mean(1, keepdim=True, dtype=precise) - y.mean(1, keepdim=True, dtype=precise)
        detail: Tensor = _Laplace.apply(grey)  # type: ignore[no-untyped-call]  # untyped in torch
        loss = detail.abs()
        if self.reduction == "mean":
            loss = loss.mean()
        elif self.reduction == "sum":
            loss = loss.sum()
        return loss

    def extra_repr(self) -> str:
        """Show the reduction where the module is printed."""
        return f"reduction={self.reduction!r}"
