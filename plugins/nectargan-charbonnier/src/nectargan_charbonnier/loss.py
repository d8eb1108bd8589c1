"""The Charbonnier loss as a module, with or without a mask."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

# The square of epsilon is a normal number of single precision from about 1e-19 to 1e19. If it were 0, the derivative
# of equal elements would be nan.
_SMALLEST, _LARGEST = 1e-18, 1e18


class Charbonnier(nn.Module):
    """Mean of sqrt(d² + epsilon²) over all elements, where d = y_fake - y.

    The loss of an element is about d²/(2·epsilon) + epsilon where d is small, and abs(d) where it is large; of equal
    images it is epsilon. Its derivative is d/sqrt(d² + epsilon²). Half-precision images are computed in float32, under
    autocast too: float16 has only four bits left for the square of 1e-3.

    Args:
        epsilon: Where the loss goes over from a square to an absolute value, in the unit of the images; from 1e-18 to
            1e18.
        reduction: `"mean"`, `"sum"`, or `"none"` for the map in the shape of the images.

    Raises:
        TypeError: If `epsilon` is no number.
        ValueError: If `epsilon` is out of its range, or `reduction` is none of these.

    Example:
        >>> import torch
        >>> y_fake, y = torch.full((1, 3, 8, 8), 4e-3), torch.full((1, 3, 8, 8), 1e-3)
        >>> round(Charbonnier(epsilon=4e-3)(y_fake, y).item(), 6)
        0.005

    Source: Lai, Huang, Ahuja and Yang, "Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution", CVPR
    2017, section 3.3, with an epsilon of 1e-3. The paper sums over the pixels and divides by the number of samples; the
    authors' `vllab_nn_L1_loss` sums, with a square of 1e-6. Charbonnier, Blanc-Féraud, Aubert and Barlaud, "Two
    Deterministic Half-Quadratic Regularization Algorithms for Computed Imaging", ICIP 1994, have the function.
    """

    def __init__(self, *, epsilon: float = 1e-3, reduction: Literal["mean", "sum", "none"] = "mean") -> None:
        super().__init__()
        if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)):
            raise TypeError(f"Charbonnier: epsilon is a number from {_SMALLEST:g} to {_LARGEST:g}, got {epsilon!r}")
        if not _SMALLEST <= epsilon <= _LARGEST:
            raise ValueError(f"Charbonnier: epsilon is a number from {_SMALLEST:g} to {_LARGEST:g}, got {epsilon!r}")
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f'Charbonnier: reduction is "mean", "sum" or "none", got {reduction!r}')
        self.epsilon = float(epsilon)
        self.reduction = reduction

    def forward(self, y_fake: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compare two images element by element.

        Args:
            y_fake: The generated image, of any shape, such as (N, C, H, W); floating point, in any range.
            y: The target, of the same shape.
            mask: How much each element counts, at least 0: of the same shape, or with sizes of 1 in their place, such
                as (N, 1, H, W); of any dtype of real numbers, or bool. The mean is then the sum of the elements times
                the mask, divided by the sum of the mask over all elements, channels included. Where nothing counts it
                is 0. None: each element counts alike.

        Returns:
            The loss, or the map, in float32, or in float64 for images in float64.

        Raises:
            TypeError: If an image is not of a floating-point dtype, or the mask is complex.
            ValueError: If the shapes do not fit.
        """
        _check_images(y_fake, y)
        precise = torch.promote_types(torch.promote_types(y_fake.dtype, y.dtype), torch.float32)
        loss = torch.sqrt((y_fake.to(precise) - y.to(precise)).square() + self.epsilon**2)
        counted = None
        if mask is not None:
            _check_mask(mask, y)
            share = mask.to(precise)
            loss = loss * share
            # The mask counts once for each element that it stands for. Of a mask of zeros the sum of the loss is 0.
            counted = (share.sum() * (loss.numel() / share.numel())).clamp_min(torch.finfo(precise).tiny)
        if self.reduction == "mean":
            loss = loss.mean() if counted is None else loss.sum() / counted
        elif self.reduction == "sum":
            loss = loss.sum()
        return loss

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return f"epsilon={self.epsilon:g}, reduction={self.reduction!r}"


def _check_images(y_fake: Tensor, y: Tensor) -> None:
    if y_fake.shape != y.shape:
        raise ValueError(
            "Charbonnier expects two images of one shape; "
            f"y_fake is {tuple(y_fake.shape)} and y is {tuple(y.shape)}: crop or resize one of them"
        )
    if not (y_fake.is_floating_point() and y.is_floating_point()):
        raise TypeError(
            f"Charbonnier expects floating-point images; y_fake is {y_fake.dtype} and y is {y.dtype}: "
            "convert with .float()"
        )


def _check_mask(mask: Tensor, y: Tensor) -> None:
    fits = mask.dim() == y.dim() and all(size in (1, of) for size, of in zip(mask.shape, y.shape, strict=True))
    if not fits:
        raise ValueError(
            f"Charbonnier expects a mask of the shape of the images, {tuple(y.shape)}, or with sizes of 1 in it; the "
            f"mask is {tuple(mask.shape)}: resize it, or add a dimension with .unsqueeze(1)"
        )
    if mask.is_complex():
        raise TypeError(f"Charbonnier expects a mask of real numbers; it is {mask.dtype}: convert with .real")
